"""Emphasizers: each module scores the prominence of words."""
