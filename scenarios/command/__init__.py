"""What the commands do between their command line and their answer: each is a thin user of the Python library."""
