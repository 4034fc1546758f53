"""Calculators: arithmetic over named inputs that have sources, each a kind of scenario."""
