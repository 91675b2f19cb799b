"""Start the page: ``python app.py``."""

import os
import threading

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")  # Gradio goes through all that it remembers at each event

from pruning.models.sources import BUNDLED
from ui import device
from ui.page import page

demo = page()
demo.queue(default_concurrency_limit=2, max_size=32)

if __name__ == "__main__":
    threading.Thread(target=device.warm, args=(BUNDLED[0],), daemon=True).start()
    demo.launch()
