"""What crosses between ranks: counts, rows, flags, and the memory they lie in."""
