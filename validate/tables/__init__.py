"""Tables of measurements: their columns and kinds, read and checked, as shapes that can be predicted."""
