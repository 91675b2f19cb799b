"""What goes, exactly, as a plan says it."""
