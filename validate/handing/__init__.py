"""How the evidence is asked for: from Python, and by the commands `validate`, `calibrate`, `calibrate-here` and `bench`."""
