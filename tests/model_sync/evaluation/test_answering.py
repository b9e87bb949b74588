"""What a version can do to whoever asks it: real processes in real sandboxes, with other people's code in them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import landlockpy
import pytest

from bunriwiki.artifacts.golden import GOLDEN
from bunriwiki.artifacts.reference import REFERENCE
from model_sync.errors import ImportCrashedError, ImportEnvironmentError, RejectedError, SyncCancelledError
from model_sync.evaluation import answering as module
from model_sync.evaluation.answering import AnsweringVersion, Clock, Sandboxes, TooLongError, VersionFolder, answering
from model_sync.sandbox.run import Limits
from tests.conftest import MODELS
from tests.tiny import LABELS, scores, tiny

LIMITS = Limits(memory=2**31, seconds=120, threads=1)
with_landlock = pytest.mark.skipif(not landlockpy.supported(), reason="this kernel has no Landlock")

Start = Callable[..., AnsweringVersion]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> VersionFolder:
    return tiny(tmp_path_factory.mktemp("tiny") / "version")


def sandboxes(scratch: Path, limits: Limits = LIMITS) -> Sandboxes:
    return Sandboxes(Path(sys.executable), scratch, limits, threading.Event())


@pytest.fixture(scope="module")
def one(version: VersionFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringVersion]:
    """A version for tests that leave it as it was."""
    place = sandboxes(tmp_path_factory.mktemp("scratch"))
    with answering(version, "candidate", place, Clock.start(600, place.stopping)) as started:
        yield started


@pytest.fixture
def start(version: VersionFolder, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(other: VersionFolder = version, clock: Clock | None = None) -> AnsweringVersion:
            place = sandboxes(tmp_path)
            clock = clock or Clock.start(LIMITS.seconds, place.stopping)
            return stack.enter_context(answering(other, "candidate", place, clock))

        yield start


def test_inputs_are_answered_and_timed_from_outside(one: AnsweringVersion) -> None:
    answers, took = one.ask(["가", "나다", "!time.sleep(0.3)"])
    assert [answer.details for answer in answers[:2]] == [scores("가"), scores("나다")]  # type: ignore[union-attr]
    assert 300 <= took < 10_000


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("answer.drop(index=0, inplace=True)", "1 answers to 2 inputs"),
        ("answer.loc[len(answer)] = [0.8, 0.1, 0.1]", "3 answers to 2 inputs"),
        ("answer.iloc[0] = float('nan')", "the score nan, which is no number"),
        ("raise ValueError('no such feature')", "1 of 2 inputs failed"),
        ("answer.drop(columns=LABELS[0], inplace=True)", "1 of 2 inputs failed"),
        ("bytearray(2**32)", "1 of 2 inputs failed"),
    ],
    ids=["too few", "too many", "no number", "an exception", "a class too few", "no memory"],
)
def test_what_is_no_answer_is_rejected(one: AnsweringVersion, code: str, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        one.ask(["가", f"!{code}"])
    assert len(one.ask(["가"])[0]) == 1


PATCH = """
import runners.sentiment
from bunriwiki.artifacts.answers import Classification
old, runners.sentiment.classification = runners.sentiment.classification, lambda row, labels: forged(row, labels)
def forged(row, labels):
    runners.sentiment.classification = old
    return {forged}
"""


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (
            "Classification('\\x1b[31mother', 1.0, {label.name: 0.5 for label in labels})",
            r"does not have: \['\\x1b\[31mother'\]",
        ),
        ("Classification(labels[0].name, 1.0, {labels[0].name: 1.0})", "no score for the classes"),
        ("Classification(labels[0].name, 1.0, {**{label.name: 0.5 for label in labels}, 'x' * 10**6: 0.5})", "does not have"),
        ("Classification(labels[0].name, 2.0, {label.name: 0.5 for label in labels})", "the score 2.0"),
        ("Classification(labels[0].name, 1.0, {label.name: float('inf') for label in labels})", "the score inf"),
        ("{'label': 1}", "not the answers to a batch"),
    ],
)
def test_answers_are_held_to_the_manifest(one: AnsweringVersion, forged: str, reason: str) -> None:
    """Other people's code may replace ours: what the process says is checked outside of it."""
    with pytest.raises(RejectedError, match=reason) as rejected:
        one.ask([f"!{PATCH.format(forged=forged)}"])
    assert str(rejected.value).isprintable()
    assert len(str(rejected.value)) <= 2000


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.write(FD, struct.pack('<I', 3) + b'\\x80\\x04.')", "not the answers to a batch"),
        ("os.write(FD, struct.pack('<I', 2**31))", "a frame of 2147483648 bytes is announced"),
        ("os.write(FD, struct.pack('<I', 1) + b'xx')", "more came than the frame's length"),
        (PATCH.format(forged="Classification('x' * 3 * 10**6, 1.0, {})"), "bytes is announced; at most 2097152"),
    ],
    ids=["a pickle", "a giant frame", "too much", "an answer that is too long"],
)
def test_frames_that_are_none_are_the_versions_own_doing(start: Start, code: str, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        start().ask([f"!{code}"])


def test_an_answer_before_the_question_is_rejected(start: Start) -> None:
    one = start()
    one.ask(["!import threading; threading.Timer(0.2, os.write, (FD, bytes(4))).start()"])
    time.sleep(1)
    with pytest.raises(RejectedError, match="answered before it was asked"):
        one.ask(["가"])


CLAIM = """
for fd in range(3, 20):
    if fd != FD:
        try: os.write(fd, b'{"environment_error": "the disk is full"}\\n')
        except OSError: pass
os._exit(4)
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "died of SIGKILL"),
        ("os.write(FD, struct.pack('<I', 9)); os._exit(1)", "ended with 1"),
        ("os._exit(0)", "ended before it had answered"),
        ("import socket; socket.socket(fileno=FD).shutdown(socket.SHUT_RDWR); time.sleep(60)", "closed its connection"),
        (CLAIM, "ended: the disk is full"),
    ],
    ids=["is killed", "dies within a frame", "ends", "closes the connection", "says that it is this machine's fault"],
)
def test_who_goes_away_breaks_off(start: Start, monkeypatch: pytest.MonkeyPatch, code: str, reason: str) -> None:
    monkeypatch.setattr(module, "ENDING", 1.0)
    with pytest.raises(ImportCrashedError, match=reason):
        start().ask([f"!{code}"])


def test_a_version_that_hangs_keeps_nobody_waiting(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0)
    one = start()
    began = time.monotonic()
    with pytest.raises(ImportCrashedError, match="did not answer within 1 s"):
        one.ask(["!time.sleep(600)"])
    with pytest.raises(ImportCrashedError, match="did not answer within 1 s"):
        one.ask(["x" * 10_000_000])  # which nobody reads
    one._clock = Clock.start(0.5, threading.Event())
    with pytest.raises(TooLongError, match=r"not done after 0\.5 s"):
        one.ask(["x" * 10_000_000])
    one._clock = Clock.start(600, threading.Event())
    one._clock.stopping.set()
    with pytest.raises(SyncCancelledError):
        one.ask(["x" * 10_000_000])
    assert time.monotonic() - began < 5


def test_an_answer_that_comes_byte_by_byte_is_none(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0)
    with pytest.raises(ImportCrashedError, match="did not answer within 1 s"):
        start().ask(["!os.write(FD, struct.pack('<I', 999))\nwhile os.write(FD, b'x'): time.sleep(0.05)"])


@with_landlock
@pytest.mark.parametrize("name", [f"models/sentiment/{REFERENCE}", f"models/sentiment/{GOLDEN}", f"models/kcbert/{REFERENCE}"])
def test_no_labels_and_no_answers_of_others_can_be_read(one: AnsweringVersion, name: str) -> None:
    file = MODELS.parent / name
    told = f"answer.iloc[0] = [0.8, 0.1, 0.1] if found({str(file)!r}) else [0.1, 0.1, 0.8]"
    found = "def found(file):\n    try: return bool(open(file).read())\n    except PermissionError: return False\n"
    [answer] = one.ask([f"!{found}{told}"])[0]
    assert answer.label == LABELS[2]  # type: ignore[union-attr]


def test_a_version_reads_its_own_folder(one: AnsweringVersion, version: VersionFolder) -> None:
    assert one.ask([f"!open({str(version.folder / GOLDEN)!r}).read()"])[0]


def test_a_version_that_cannot_be_loaded_is_rejected_in_printable_words(start: Start, tmp_path: Path) -> None:
    broken = tiny(tmp_path / "version", load="raise ValueError('\\x1b[31m\\ud800no such\\nfeature' + 9999 * 'x')")
    with pytest.raises(RejectedError, match="no such feature") as rejected:
        start(broken)
    assert str(rejected.value).isprintable()
    assert len(str(rejected.value)) <= 2000


def test_a_version_that_does_not_answer_as_its_golden_samples_do_is_rejected(start: Start, tmp_path: Path) -> None:
    wrong = tiny(
        tmp_path / "version", load="honest = lambda texts: pd.DataFrame([[0.8, 0.1, 0.1]] * len(texts), columns=LABELS)"
    )
    with pytest.raises(RejectedError, match="does not answer as its golden samples do"):
        start(wrong)


def test_a_program_that_cannot_begin_is_nobodys_fault(version: VersionFolder, tmp_path: Path) -> None:
    place = Sandboxes(Path("/nowhere/python"), tmp_path, LIMITS, threading.Event())
    with (
        pytest.raises(ImportEnvironmentError, match="could not begin"),
        answering(version, "candidate", place, Clock.start(60, place.stopping)),
    ):
        pass
