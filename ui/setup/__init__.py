"""The column on the left: what is asked for, of which model, and what that would do."""
