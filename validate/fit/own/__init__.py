"""Constants of this project's own kernels from their rows: one GPU's, a node's links, and what rows would still tell."""
