"""``python -m epicycle`` is the ``epicycle`` command."""

from .cli import main

if __name__ == "__main__":
    main()
