"""A local HTTP server with byte ranges and with faults on demand."""

import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = ("500", "reset", "truncate", "stall")


class Server(ThreadingHTTPServer):
    """Serve a folder; requests for shards use up `faults` one by one, and after that `always` applies to each."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.faults: deque[str] = deque()
        self.always = ""
        self.ranges = True
        self.sent_ranges: list[tuple[str, int, int]] = []
        """Shard name, start and end of every range that was sent completely."""
        self.ended = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Address of the served folder."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not report clients that disconnect: the tests make them do so."""


class Handler(BaseHTTPRequestHandler):
    """Answers GET requests for files, with the faults that the server asks for."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests."""

    def do_GET(self) -> None:
        """Send a file, or the requested range of it."""
        path = self.server.folder / self.path.lstrip("/")
        shard = path.suffix == ".tar"
        with self.server.lock:
            fault = (self.server.faults.popleft() if self.server.faults else self.server.always) if shard else ""
        if fault.isdigit() or not path.is_file():
            self.send_error(int(fault or 404))
            return
        data, status = path.read_bytes(), 200
        start, end = 0, len(data)
        if self.server.ranges and "Range" in self.headers:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            start, end, status = int(first), min(len(data), int(last) + 1), 206
        self.send_response(status)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self._send(data[start:end], fault)
        if shard and fault in ("", "slow"):
            with self.server.lock:
                self.server.sent_ranges.append((path.name, start, end))

    def _send(self, body: bytes, fault: str) -> None:
        half = len(body) // 2
        if fault in ("", "slow"):
            self.wfile.write(body[:half])
            self.server.ended.wait(0.05 if fault else 0)
            self.wfile.write(body[half:])
            return
        self.wfile.write(body[:half])
        self.wfile.flush()
        if fault == "stall":
            self.server.ended.wait(30)
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Run a server in a thread until the `with` block ends."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
