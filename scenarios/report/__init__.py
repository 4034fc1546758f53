"""Self-contained HTML reports (Plotly inlined) of simulation and validation results."""
