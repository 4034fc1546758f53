"""What a simulation is asked about: a model, its traffic, its deployment."""
