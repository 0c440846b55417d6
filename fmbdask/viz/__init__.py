"""Figures from labelled results: functions that take labelled arrays and tables and return a figure."""
