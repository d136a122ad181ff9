"""Tables as the files that other programs open: one module a format, below `formats`."""
