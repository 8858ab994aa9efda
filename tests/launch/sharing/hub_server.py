"""A server on this machine that answers the few requests with which huggingface_hub downloads a model."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The only revision that there is; `main` means it."""


@dataclass
class FakeHub:
    """Models by name, and what was asked for."""

    models: dict[str, Path] = field(default_factory=dict)
    """`owner/name` -> its folder."""
    gated: set[str] = field(default_factory=set)
    """Models that nobody may read."""
    requests: list[str] = field(default_factory=list)
    """Paths of all requests."""
    tokens: set[str] = field(default_factory=set)
    """Authorization headers that were sent."""
    url: str = ""


@contextmanager
def serving() -> Iterator[FakeHub]:
    """Run a hub in a thread until the `with` block ends."""
    hub = FakeHub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: object) -> None:
        """Do not log requests."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(path)
        if "Authorization" in self.headers:
            self.hub.tokens.add(self.headers["Authorization"])
        words = path.strip("/").removeprefix("api/models/").split("/")
        name, action, revision = "/".join(words[:2]), words[2] if len(words) > 2 else "", words[3:4]
        folder = self.hub.models.get(name)
        if folder is None:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if revision and revision[0] not in ("main", COMMIT):
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if action == "resolve" and name in self.hub.gated:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
        if action == "resolve":
            if words[4] not in files:
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            etag = f'"{hashlib.sha1(files[words[4]]).hexdigest()}"'
            return self._send(200, files[words[4]], {"ETag": etag, "X-Repo-Commit": COMMIT})
        entries = [
            {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for file, data in files.items()
        ]
        if action == "tree":
            return self._send(200, json.dumps(entries).encode())
        siblings = [{"rfilename": file} for file in files]
        return self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
