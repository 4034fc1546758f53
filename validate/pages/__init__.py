"""What a validation says of itself: its HTML page and docs/validation.md."""
