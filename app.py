"""Start the page: ``python app.py``."""

import os
import threading

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from pruning.models import BUNDLED
from ui import device
from ui.page import page
from ui.theme import CSS, theme

demo = page()
demo.queue(default_concurrency_limit=2, max_size=32)

if __name__ == "__main__":
    threading.Thread(target=device.warm, args=(BUNDLED[0],), daemon=True).start()
    demo.launch(theme=theme(), css=CSS, footer_links=["api", "gradio", "settings"], show_error=True, ssr_mode=False)
