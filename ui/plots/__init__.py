"""Figures: data in, figure or markup out. Nothing here knows gradio, state or the engine's networks."""
