"""Transcribers: words with times, one a file."""
