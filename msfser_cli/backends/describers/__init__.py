"""Describers: the delivery in words, one a file."""
