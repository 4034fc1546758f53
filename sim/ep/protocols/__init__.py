"""The protocols, one file each: what each moves, what it costs, what its buffers take."""
