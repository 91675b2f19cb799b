"""The page as a process of its own, for benchmarks that visit it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]


@contextmanager
def served() -> Iterator[tuple[str, subprocess.Popen]]:
    """(address, process) once the server answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, "app.py"], env={**os.environ, "GRADIO_SERVER_PORT": str(port)},
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            if server.poll() is not None:
                raise RuntimeError(f"app.py ended with {server.returncode}")
            try:
                urlopen(url, timeout=1)
                break
            except (URLError, OSError):
                time.sleep(0.05)
        yield url, server
    finally:
        server.terminate()
        server.wait()
