"""The reports of deployments: plans, sweeps, comparisons and explanations."""
