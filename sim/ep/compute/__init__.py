"""Expert compute: grouped products in tiles and waves, on whom a draw falls, in closed form and for our own kernels."""
