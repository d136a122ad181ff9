"""The formats, one module each, or one for several that are alike. `FORMATS` in each has them by name."""
