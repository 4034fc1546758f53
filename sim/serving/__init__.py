"""Requests on workers: the steady state of aggregated and disaggregated deployments."""
