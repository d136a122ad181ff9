"""Transcribers, one in each file. They recognise words with their times."""
