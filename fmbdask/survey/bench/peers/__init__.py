"""The same exposures through the tools that others use."""
