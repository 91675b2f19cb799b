"""How a ratio is divided over the layers."""
