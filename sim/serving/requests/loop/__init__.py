"""The compiled loop: what it works on, and what happens in it."""
