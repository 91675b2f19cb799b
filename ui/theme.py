"""Colours for the page and its figures alike: dense is blue, pruned is orange, removed is hatched. Light and dark."""

from pathlib import Path

import gradio as gr

DENSE = "#2862c4"


def theme() -> gr.themes.Base:
    """A quiet theme with system fonts: nothing is fetched from elsewhere."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return gr.themes.Base(primary_hue=gr.themes.colors.blue, neutral_hue=gr.themes.colors.slate,
                          radius_size=gr.themes.sizes.radius_md, spacing_size=gr.themes.sizes.spacing_sm,
                          font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"]).set(
        body_background_fill="#f6f7f9", block_shadow="none", block_border_width="1px",
        button_primary_background_fill=DENSE, button_primary_background_fill_hover="#255bb3",
        button_primary_text_color="#ffffff", block_info_text_color="#5a6472", block_info_text_color_dark="#a3adbb",
        block_label_text_color="#475062", block_label_text_color_dark="#b6bfcc", block_title_text_color="#475062",
        block_title_text_color_dark="#b6bfcc")


CSS = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
