"""The expert-parallel layer: routing, placement, protocols described once, and their two interpreters."""
