"""Measurements of speed and quality; a room each."""
