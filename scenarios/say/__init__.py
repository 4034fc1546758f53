"""Answers in words: on a terminal, as JSON, as CSV; and the files they are written to."""
