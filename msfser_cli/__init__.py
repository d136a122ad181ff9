"""Batch annotation of speech corpora for emotion with MSF-SER."""

__version__ = "0.1.0"
