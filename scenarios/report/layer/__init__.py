"""The report of one simulated layer."""
