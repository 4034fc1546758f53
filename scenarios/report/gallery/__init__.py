"""The page of the gallery."""
