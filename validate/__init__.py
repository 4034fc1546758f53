"""The evidence: measure on hardware, fit, predict against measurements, report the error."""
