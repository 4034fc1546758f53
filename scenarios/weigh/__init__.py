"""Answers against each other: sweeps, comparisons and explanations, and the mechanism that makes a difference."""
