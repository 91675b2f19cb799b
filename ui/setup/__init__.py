"""What stands around the tabs: the setup on the left, the row above, the address; what is asked for and would do."""
