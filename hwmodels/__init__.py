"""The machine at rest: datasheets, time laws and fitted parameters. Imports no other room."""
