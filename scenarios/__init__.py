"""The questions people ask: scenario files, the gallery, and the reports that answer them."""
