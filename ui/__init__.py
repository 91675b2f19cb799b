"""The page. A tab is one file; handlers read values, make a recipe, call the engine through ``device``, draw figures."""
