"""What Alertmanager calls when alerts fire and resolve."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self

Status = Literal["firing", "resolved"]


@dataclass(frozen=True)
class Delivery:
    """An alert that was delivered."""

    status: Status
    labels: dict[str, str]
    annotations: dict[str, str]


class WebhookReceiver:
    """An HTTP server on a free port that keeps every alert that is delivered to `url`."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.deliveries += [
                    Delivery(alert["status"], alert["labels"], alert["annotations"]) for alert in body["alerts"]
                ]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing: the default prints every request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def has(self, alert: str, status: Status, **labels: str) -> bool:
        """Whether an alert of this name and with these labels was delivered with this status."""
        wanted = {"alertname": alert, **labels}.items()
        return any(found.status == status and wanted <= found.labels.items() for found in self.deliveries)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
