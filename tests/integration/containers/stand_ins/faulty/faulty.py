"""A replica that is ready, and answers each POST with its name: with the status in /tmp/fault, or not at all (`broken`)."""

from __future__ import annotations

import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULT = Path("/tmp/fault")  # noqa: S108 (of a container)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5  # seconds that an idle connection stays open, as the service's

    def do_GET(self) -> None:
        self._send(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = FAULT.read_text().strip() if FAULT.exists() else "200"
        if fault == "broken":
            self.close_connection = True
        else:
            self._send(int(fault))

    def _send(self, status: int) -> None:
        body = socket.gethostname().encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base class's name)
        pass


signal.signal(signal.SIGTERM, lambda *_: sys.exit())
ThreadingHTTPServer(("0.0.0.0", 3000), Handler).serve_forever()  # noqa: S104
