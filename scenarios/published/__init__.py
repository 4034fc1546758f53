"""Published systems: what their scenarios answer, set beside what was published, and judged."""
