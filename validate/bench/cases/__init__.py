"""What bench runs: every kernel inside one rank, every launch of an exchange, whole layers, with what each must give."""
