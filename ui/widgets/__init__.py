"""Parts of the page that several tabs use: controls, choices, notes of progress, what an event is like."""
