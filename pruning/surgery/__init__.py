"""What changes a copy of a network: zeros, slices, norms, and weights that make up for those that went."""
