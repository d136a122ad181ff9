"""Encoders: vectors of speech and of text, one a file."""
