"""A small Hugging Face hub on 127.0.0.1: repositories are folders, and each can have the faults of real ones.

    with HubStub() as hub:
        hub.add("someone/model", folder)
        hub.add("someone/locked", folder, gated="secret")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

REPO = r"(?P<repo>[^/]+/[^/]+)"
ROUTES = {
    "info": re.compile(rf"/api/models/{REPO}(?:/revision/(?P<rev>[^/]+))?"),
    "tree": re.compile(rf"/api/models/{REPO}/tree/(?P<rev>[^/]+)"),
    "file": re.compile(rf"/{REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
}


@dataclass(frozen=True)
class Repo:
    """A folder and its faults.

    ``gated`` and ``private`` are the token that opens the repository; gated ones still show their metadata, as on the
    real hub. ``announce`` gives files another size in the metadata (and may name files that do not exist), ``serve``
    other bytes than the folder has, ``cut`` sends only so many bytes of a file of the full size. ``status`` answers
    everything with that code.
    """

    folder: Path
    gated: str | None = None
    private: str | None = None
    library: str | None = "diffusers"
    tags: tuple[str, ...] = ()
    announce: dict[str, int | None] = field(default_factory=dict)
    serve: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    status: int | None = None

    def names(self) -> list[str]:
        found = {p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()}
        return sorted(found | set(self.announce) | set(self.serve))

    def body(self, name: str) -> bytes | None:
        path = self.folder / name
        return self.serve[name] if name in self.serve else path.read_bytes() if path.is_file() else None

    def size(self, name: str) -> int | None:
        return self.announce[name] if name in self.announce else len(self.body(name) or b"")

    def etag(self, name: str) -> str:
        return hashlib.sha1((self.body(name) or b"") + name.encode()).hexdigest()

    @property
    def commit(self) -> str:
        return hashlib.sha1("".join(map(self.etag, self.names())).encode()).hexdigest()


class HubStub:
    """Serves while it is entered. ``requests`` has (method, path) of everything that was asked for."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.down = False

    def add(self, repo_id: str, folder: Path, **faults) -> None:
        """Serve a folder; adding it again replaces it (see ``Repo`` for the faults)."""
        self.repos[repo_id] = Repo(Path(folder), **faults)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def env(self) -> dict[str, str]:
        """What leads huggingface_hub here, past any proxy."""
        return {"HF_ENDPOINT": self.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    def fetched(self, ending: str = "") -> list[str]:
        """Paths of the files whose content was asked for."""
        return [path for method, path in self.requests if method == "GET" and "/resolve/" in path
                and path.endswith(ending)]

    def __enter__(self) -> "HubStub":
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One answer of the hub."""

    hub: HubStub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.hub.requests.append((self.command, self.path))
        path = unquote(urlsplit(self.path).path)
        for kind, route in ROUTES.items():
            if match := route.fullmatch(path):
                return self.repository(kind, **match.groupdict())
        return self.problem(404, "EntryNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass

    def repository(self, kind: str, repo: str, rev: str | None, path: str = "") -> None:
        found = self.hub.repos.get(repo)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.down:
            return self.problem(503, "")
        if found is None:
            return self.problem(404 if token else 401, "RepoNotFound")  # as the hub hides private ones
        if found.status:
            return self.problem(found.status, "")
        if found.private not in (None, token):
            return self.problem(404 if token else 401, "RepoNotFound")
        if found.gated not in (None, token) and kind == "file":
            return self.problem(403 if token else 401, "GatedRepo")
        if rev not in (None, "main", found.commit):
            return self.problem(404, "RevisionNotFound")
        return {"info": self.info, "tree": self.tree, "file": self.file}[kind](repo, found, path)

    def info(self, repo_id: str, repo: Repo, _: str) -> None:
        siblings = [{"rfilename": name, "size": repo.size(name), "blobId": repo.etag(name)} for name in repo.names()]
        self.json({"id": repo_id, "sha": repo.commit, "siblings": siblings, "tags": repo.tags, "private": False,
                   "gated": "auto" if repo.gated else False, "library_name": repo.library})

    def tree(self, repo_id: str, repo: Repo, _: str) -> None:
        self.json([{"type": "file", "path": name, "size": repo.size(name), "oid": repo.etag(name)}
                   for name in repo.names()])

    def file(self, repo_id: str, repo: Repo, name: str) -> None:
        body = repo.body(name)
        if body is None:
            return self.problem(404, "EntryNotFound")
        announced = len(body) if self.command == "GET" else repo.size(name)
        headers = {"ETag": f'"{repo.etag(name)}"', "X-Repo-Commit": repo.commit, "X-Linked-Size": str(repo.size(name))}
        return self.answer(200, body[: repo.cut.get(name)] if self.command == "GET" else b"", headers,
                           length=min(announced, repo.cut.get(name, announced)) if self.command == "GET" else announced)

    def json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def problem(self, status: int, code: str) -> None:
        self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code or "trouble"})

    def answer(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
