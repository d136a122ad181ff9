"""What each command does: (rows, audio, backend) to rows, and the one batch loop."""
