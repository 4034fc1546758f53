"""Plans: every deployment that a search allows, as a table; the cheapest within the limits, or what is missing."""
