"""Emphasizers: the prominence of words, one a file."""
