"""Attention in a model step, one file for each kind of layer: what its kernels take on the busiest GPU of a worker."""
