"""What is known of hardware beyond its numbers: how tables and people call it, and what of it nobody measured."""
