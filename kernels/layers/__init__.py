"""Whole MoE layers of one rank, as the launches of each protocol in order."""
