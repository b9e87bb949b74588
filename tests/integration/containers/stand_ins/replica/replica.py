"""Answers like the service, as far as a rollout and its clients look: readiness, golden samples with their version, metrics.

It follows the store's generation file, and on SIGTERM it is unready for BUNRIWIKI_DRAIN_SECONDS before it ends. BEHAVIOUR makes
it bad: `wrong` answers with other scores, `slow` takes 0.3 s longer, `fails` answers every fourth text that is no golden sample
with 500, `unready` never becomes ready, `ends` ends at once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PATHS = {"/predict": "sentiment", "/kcbert/prediction": "kcbert", "/yolo/prediction": "yolo"}
STORE, BUNDLED = Path("/store"), Path("/app/models")
BEHAVIOUR = os.environ.get("BEHAVIOUR", "")
BOUNDS = (0.01, 0.05, 0.5, 5.0, float("inf"))
draining = threading.Event()
counted: Counter[tuple[str, str, float]] = Counter()
failed: Counter[tuple[str, str]] = Counter()
counting = threading.Lock()
ordinary = itertools.count()  # texts that are no golden samples


class FailedError(Exception):
    """The version, which is the text of the exception, gives no answer."""


def folder_of(model: str) -> Path:
    """The version that serves according to the store, or else the bundled one."""
    try:
        text = (STORE / "generation.yaml").read_text(encoding="utf-8")
    except OSError:
        return BUNDLED / model
    found = re.search(rf"^  {model}:\n(?:    .*\n)*?    serving:\n      version: (\S+)", text, re.MULTILINE)
    return STORE / "models" / model / found[1] if found and found[1] != "fallback" else BUNDLED / model


def answer(model: str, content: bytes) -> tuple[str, dict[str, Any]]:
    """The version that answers, and its answer: that of the golden sample, if it is one."""
    folder = folder_of(model)
    version = re.search(r"^version: (\S+)", (folder / "manifest.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    samples = [json.loads(line) for line in (folder / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    if model == "yolo":
        digest = hashlib.sha256(content).digest()
        same = [each for each in samples if hashlib.sha256((folder / each["image"]).read_bytes()).digest() == digest]
        body = {"detections": (same or samples)[0]["detections"], "image": {"width": 240, "height": 320}}
    else:
        text = json.loads(content)["text"]
        golden = [each["details"] for each in samples if each["text"] == text]
        if BEHAVIOUR == "fails" and not golden and next(ordinary) % 4 == 0:
            raise FailedError(version[1] if version else "")
        details = (golden or [samples[0]["details"]])[0]
        if BEHAVIOUR == "wrong":
            details = dict(zip(details, reversed(list(details.values())), strict=True))
        body = {"details": details}
    return version[1] if version else "", body


def metrics() -> str:
    lines = []
    with counting:
        for (model, version, bound), count in sorted(counted.items()):
            labels = f'model="{model}",version="{version}"'
            lines.append(
                f'bunriwiki_prediction_duration_seconds_bucket{{{labels},le="{str(bound).replace("inf", "+Inf")}"}} {count}'
            )
            if bound == BOUNDS[-1]:
                lines.append(f"bunriwiki_predictions_total{{{labels}}} {count}")
        failures = [
            f'bunriwiki_prediction_failures_total{{model="{model}",version="{version}",reason="model_error"}} {count}'
            for (model, version), count in failed.items()
        ]
    histogram = [line for line in lines if "_bucket" in line]
    counter = [line for line in lines if "_total" in line]
    families = {"prediction_duration_seconds histogram": histogram, "predictions_total counter": counter}
    families["prediction_failures_total counter"] = failures
    return "\n".join([*(line for name, found in families.items() for line in (f"# TYPE bunriwiki_{name}", *found)), ""])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5  # seconds that an idle connection stays open: longer than the edge keeps it, as the service does

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._send(200, metrics().encode())
        else:
            self._send(503 if draining.is_set() or BEHAVIOUR == "unready" else 200, b"\n")

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        model = PATHS[self.path.partition("?")[0]]
        began = time.monotonic()
        if BEHAVIOUR == "slow":
            time.sleep(0.3)
        try:
            version, body = answer(model, content)
        except FailedError as error:
            with counting:
                failed[model, str(error)] += 1
            self._send(500, b"{}")
            return
        took = time.monotonic() - began
        with counting:
            for bound in BOUNDS:
                counted[model, version, bound] += took <= bound
        self._send(200, json.dumps(body).encode(), {"X-Model-Name": model, "X-Model-Version": version})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        close = {"Connection": "close"} if draining.is_set() else {}
        for name, value in {"Content-Length": str(len(body)), **close, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or draining.is_set()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def main() -> None:
    if BEHAVIOUR == "ends":
        sys.exit(1)
    server = Server(("0.0.0.0", 3000), Handler)  # noqa: S104

    def drain(*_: object) -> None:
        draining.set()
        threading.Timer(float(os.environ.get("BUNRIWIKI_DRAIN_SECONDS", "5")), server.shutdown).start()

    signal.signal(signal.SIGTERM, drain)
    server.daemon_threads = False
    # For health checks, as the service has it.
    checked = Server(("0.0.0.0", 3003), Handler)  # noqa: S104
    threading.Thread(target=checked.serve_forever, daemon=True).start()
    server.serve_forever()
    server.server_close()


main()
