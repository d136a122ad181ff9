"""Encoders: vectors of speech and of text, one a file."""

SAFELY = {"local_files_only": True, "trust_remote_code": False}
"""How transformers loads a folder: nothing is fetched, and code that comes with a model is refused without asking."""
