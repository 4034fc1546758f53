"""A deployment under requests that come one by one: set up, played, weighed and told."""
