"""Constants fitted to a few measured rows, with their uncertainty and residuals; the calibrations that ship."""
