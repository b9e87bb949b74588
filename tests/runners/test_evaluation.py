"""The program that answers for one version, over a pair of sockets, as the sidecar starts it but without the sandbox."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.golden import read_golden_photos, read_golden_texts
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.programs import REJECTED
from bunriwiki.ipc.frames import PROBE, AnswersDecoder, batch_frame, receive
from bunriwiki.testing.paths import MODELS, ROOT
from bunriwiki.testing.tiny import tiny

pytestmark = pytest.mark.slow

SECONDS = 120


@contextmanager
def program(model: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "runners.evaluation", model, str(folder), "--fd", str(theirs.fileno())],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        with process:
            try:
                yield process, ours
            finally:
                process.kill()


def messages(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    output, _ = process.communicate(timeout=SECONDS)
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("model", ["yolo", "kcbert", "sentiment"])
def test_a_version_answers_until_the_connection_ends(model: str) -> None:
    folder = MODELS / model
    inputs: list[Any]
    if model == "yolo":
        photos = read_golden_photos(folder)[:2]
        inputs = [Photo(data=(folder / one.image).read_bytes(), confidence=one.confidence) for one in photos]
    else:
        inputs = [one.text for one in read_golden_texts(folder)[:2]]
    decoder: AnswersDecoder[Any] = AnswersDecoder(Detections if model == "yolo" else Classification)
    with program(model, folder) as (process, connection):
        connection.sendall(PROBE)
        assert receive(connection) == b""  # it is loaded and warm
        for batch in (inputs, inputs[:1]):
            connection.sendall(batch_frame("any", batch))
            content = receive(connection)
            assert content is not None
            assert len(decoder.decode(content).results) == len(batch)
        connection.close()
        assert messages(process) == [{"begun": True}]
        assert process.returncode == 0


def test_a_version_that_cannot_be_loaded_is_rejected(tmp_path: Path) -> None:
    version = tiny(tmp_path / "version")
    (version.folder / "pyfunc" / "MLmodel").write_bytes(b"no model")
    with program("sentiment", version.folder) as (process, _):
        begun, rejected = messages(process)
        assert (begun, process.returncode) == ({"begun": True}, REJECTED)
        assert "MLmodel has 8 bytes" in rejected["rejected"]


def test_bytes_that_are_no_frame_end_the_connection() -> None:
    with program("kcbert", MODELS / "kcbert") as (process, connection):
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(1) == b""
        assert process.wait(SECONDS) == 1
