"""Book part III: one training loop, and a module for each stage."""
