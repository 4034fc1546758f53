"""Rows of measurement tables predicted, and how far off each group is."""
