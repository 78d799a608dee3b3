"""Book part I: from text to token files."""
