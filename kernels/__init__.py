"""Real Triton expert-parallel kernels, each beside its launcher and its PyTorch reference."""
