"""Measured deployments: read, predicted in steady state, and the engines' own times fitted to a few of them."""
