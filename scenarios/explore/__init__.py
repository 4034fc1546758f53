"""A local page to play with a scenario: its main numbers as sliders, answered in closed form as they move."""
