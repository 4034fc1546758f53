"""Measure this machine, fit its constants, judge them: what one command leaves behind."""
