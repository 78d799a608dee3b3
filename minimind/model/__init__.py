"""Book part II: the model and generation."""
