"""The words a user types: options in, one call out."""
