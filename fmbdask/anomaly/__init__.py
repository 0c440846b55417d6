"""Anomalous objects among embeddings and other vectors: one protocol for all detectors."""
