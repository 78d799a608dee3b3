"""MiniMind, built chapter by chapter: text, model, training and what follows."""

__version__ = "0.1.0"
