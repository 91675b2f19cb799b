"""How far pruned pictures are from dense ones."""
