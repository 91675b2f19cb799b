"""The code that makes the bundled models from Noto Color Emoji and Unicode CLDR. One command a model."""
