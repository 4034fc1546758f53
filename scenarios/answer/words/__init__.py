"""How numbers and metrics are called and written, in every form of an answer."""
