"""How sure predictions are, smoothly over the times that they predict."""
