"""Anomalous objects of embedding stores: what commands and the survey pipeline do around the detectors."""
