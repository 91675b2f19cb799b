"""From a request to a plan, its preview while a ratio is dragged, and how far two methods agree."""
