"""The command line `fec`."""
