from __future__ import annotations

import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.artifacts.answers import Answers, Classification, Detection, Detections, Failure, ImageSize, Work
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.ipc import frames
from bunriwiki.ipc.frames import (
    LENGTH,
    PROBE,
    AnswersDecoder,
    BatchDecoder,
    BatchError,
    BrokenFrameError,
    answers_frame,
    batch_frame,
    error_frame,
    receive,
)

TEXTS, PHOTOS = BatchDecoder(str), BatchDecoder(Photo)
CLASSIFIED, DETECTED = AnswersDecoder(Classification), AnswersDecoder(Detections)
BROKEN = Failure(kind="broken", message="The image is damaged.")


def content(frame: bytes | bytearray) -> bytes:
    return bytes(frame[LENGTH.size :])


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@given(st.lists(st.builds(Photo, data=st.binary(), confidence=st.floats(0, 1), iou=st.floats(0, 1)), max_size=8))
def test_photos_are_decoded_as_they_were_sent(photos: list[Photo]) -> None:
    batch = PHOTOS.decode(content(batch_frame("v1", photos)))
    assert (batch.version, batch.inputs) == ("v1", photos)


@given(st.lists(st.text(), max_size=8))
def test_texts_are_decoded_as_they_were_sent(texts: list[str]) -> None:
    assert TEXTS.decode(content(batch_frame("v1", texts))).inputs == texts


def test_answers_and_failures_keep_their_positions() -> None:
    found = Detections((Detection("glass", "유리", 0.5, (1.0, 2.0, 3.0, 4.0)),), ImageSize(4, 3))
    answers: Answers[Detections] = Answers("yolo", "v1", (BROKEN, found, BROKEN))
    assert DETECTED.decode(content(answers_frame(answers))) == answers
    nothing: Answers[Classification] = Answers("kcbert", "v2", ())
    assert CLASSIFIED.decode(content(answers_frame(nothing))) == nothing


def test_a_batch_that_failed_raises() -> None:
    with pytest.raises(BatchError, match="no memory"):
        CLASSIFIED.decode(content(error_frame("kcbert", "v1", "no memory")))


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x00",
        b"\xc1",
        pickle.dumps(Malicious()),
        msgspec.msgpack.encode(["v1"]),
        msgspec.msgpack.encode({"version": "v1", "inputs": []}),
        msgspec.msgpack.encode([1, ["text"]]),
        msgspec.msgpack.encode(["v1", [b"no text"]]),
        msgspec.msgpack.encode(["v1", [{"data": b"a photo"}]]),
        msgspec.msgpack.encode(["v1", [msgspec.msgpack.Ext(1, b"extension")]]),
        b"\x92\xa2v1\xdd\xff\xff\xff\xff",  # a list of four billion texts, without any text
        b"\x91" * 100_000,
        b"\x92\xa2v1\x91\xa2\xff\xff",  # invalid UTF-8
    ],
)
def test_other_content_is_rejected(hostile: bytes) -> None:
    with pytest.raises(BrokenFrameError):
        TEXTS.decode(hostile)
    with pytest.raises(BrokenFrameError):
        CLASSIFIED.decode(hostile)


def test_an_input_without_an_answer_or_a_failure_is_rejected() -> None:
    with pytest.raises(BrokenFrameError, match="input 0"):
        CLASSIFIED.decode(msgspec.msgpack.encode(["kcbert", "v1", [None], {}, ""]))


@pytest.mark.parametrize("size", [0, 1, frames.CHUNK - LENGTH.size, frames.CHUNK, 3 * frames.CHUNK + 1])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_frame_is_read_completely(pair: tuple[socket.socket, socket.socket], size: int, steps: int) -> None:
    sender, receiver = pair
    data = LENGTH.pack(size) + b"x" * size

    def send() -> None:
        for start in range(0, len(data), max(1, -(-len(data) // steps))):
            sender.sendall(data[start : start + max(1, -(-len(data) // steps))])

    thread = threading.Thread(target=send)
    thread.start()
    received = receive(receiver)
    thread.join()
    assert received is not None
    assert bytes(received) == b"x" * size


def test_the_end_of_the_connection_between_two_frames_is_no_error(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(PROBE)
    pair[0].close()
    assert receive(pair[1]) == b""
    assert receive(pair[1]) is None


@pytest.mark.parametrize("sent", [b"\x01", LENGTH.pack(5) + b"four", struct.pack("<I", 2**32 - 1), LENGTH.pack(1) + b"ab"])
def test_a_broken_frame_is_rejected(pair: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    pair[0].sendall(sent)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenFrameError):
        receive(pair[1])


def test_a_frame_that_is_too_long_is_not_created(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_BYTES", 100)
    with pytest.raises(BrokenFrameError):
        batch_frame("v1", ["x" * 100])


def test_the_work_of_a_batch_comes_with_its_answers() -> None:
    answers: Answers[Classification] = Answers("kcbert", "v1", (BROKEN,), Work(0.001, 0.02, 40, 10))
    assert CLASSIFIED.decode(content(answers_frame(answers))) == answers


@pytest.mark.parametrize(
    "work", [(-0.1, 0.0, 0, 0), (0.0, float("inf"), 0, 0), (float("nan"), 0.0, 0, 0), (0.0, 0.0, -1, 0), (0.0, 0.0, 0, 2**60)]
)
def test_work_that_would_spoil_a_counter_is_rejected(work: tuple[float, float, int, int]) -> None:
    answers: Answers[Classification] = Answers("kcbert", "v1", (BROKEN,), Work(*work))
    with pytest.raises(BrokenFrameError):
        CLASSIFIED.decode(content(answers_frame(answers)))
