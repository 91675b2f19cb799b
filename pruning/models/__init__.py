"""Pipelines on disk and on the hub: trusted before they are loaded, written whole or not at all."""
