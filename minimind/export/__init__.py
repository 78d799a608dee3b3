"""Models from other programs and for other programs (chapters 06 and 16)."""
