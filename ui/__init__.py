"""The page. A tab is one file; handlers read values, make a recipe, ask the engine through ``device``, draw figures."""
