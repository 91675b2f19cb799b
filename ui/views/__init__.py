"""What the engine does and knows, as small values that the page shows."""
