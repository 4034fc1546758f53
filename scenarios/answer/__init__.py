"""Answers: one deployment or one layer as a record of numbers with intervals, steps, memory, cost and sources."""
