"""What a network is shown by methods that look at data."""
