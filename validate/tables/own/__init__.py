"""Tables of this project's own kernels: a row as the launches it consists of, on one GPU or on a node."""
