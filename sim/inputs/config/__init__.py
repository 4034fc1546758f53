"""Reads a published model config: every key is used, known to say nothing of cost, or the reason of a refusal."""
