"""The page of a run of requests."""
