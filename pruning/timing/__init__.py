"""What the clock says, and what it can tell."""
