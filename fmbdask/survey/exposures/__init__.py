"""Exposures one by one: simulated, searched, exported, shown, remembered."""
