"""A plan becomes a new pipeline."""
