"""Book part IV: measuring what a model can do."""
