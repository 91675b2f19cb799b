"""Looking at a network while it works, and leaving it as it was."""
