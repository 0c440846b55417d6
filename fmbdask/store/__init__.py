"""Bytes: readers of exposures, stores of results."""
