"""Time laws of kernels on one GPU or one node: a few physical constants each, vectorised over whole tables."""
