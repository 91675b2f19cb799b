"""Published systems, a file each: which parts they are made of. They are found as methods, next to the criteria."""
