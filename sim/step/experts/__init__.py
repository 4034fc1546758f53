"""The routed experts in a model step: in kernels of their own, or inside the one that exchanges their tokens."""
