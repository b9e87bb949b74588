"""What a malicious version can do to the sidecar: real processes in real sandboxes, which run third-party code."""

from __future__ import annotations

import os
import subprocess
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
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.tiny import LABELS, scores, tiny
from model_sync.errors import ImportCrashedError, ImportEnvironmentError, RejectedError, SyncCancelledError, UndecidedError
from model_sync.evaluation import answering as module
from model_sync.evaluation.answering import (
    AnsweringVersion,
    Deadline,
    EvaluationTimeoutError,
    SandboxSettings,
    VersionFolder,
    answering,
)
from model_sync.sandbox.run import Limits

pytestmark = pytest.mark.slow

LIMITS = Limits(memory=2**31, seconds=120, threads=1)
with_landlock = pytest.mark.skipif(not landlockpy.supported(), reason="this kernel has no Landlock")

Start = Callable[..., AnsweringVersion]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> VersionFolder:
    return tiny(tmp_path_factory.mktemp("tiny") / "version")


def in_sandbox(scratch: Path) -> SandboxSettings:
    return SandboxSettings(Path(sys.executable), scratch, LIMITS, threading.Event())


@pytest.fixture(scope="module")
def shared(version: VersionFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsweringVersion]:
    """A version for tests that do not change it."""
    settings = in_sandbox(tmp_path_factory.mktemp("scratch"))
    with answering(version, "candidate", settings, Deadline.start(600, settings.stopping)) as started:
        yield started


@pytest.fixture
def start(version: VersionFolder, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(other: VersionFolder = version) -> AnsweringVersion:
            settings = in_sandbox(tmp_path)
            deadline = Deadline.start(LIMITS.seconds, settings.stopping)
            return stack.enter_context(answering(other, "candidate", settings, deadline))

        yield start


def test_inputs_are_answered_and_timed(shared: AnsweringVersion) -> None:
    answers, took = shared.answer(["가", "나다", "!time.sleep(0.3)"])
    assert [answer.details for answer in answers[:2]] == [scores("가"), scores("나다")]  # type: ignore[union-attr]
    assert 250 <= took < 10_000  # less what another thread of it waited for a core in the meantime


COMPUTE = "!end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"


def test_the_time_in_which_a_version_waits_for_a_core_does_not_count(shared: AnsweringVersion) -> None:
    """It shares a core with another program: it computes for half a second, and waits for about as long."""
    core = {min(os.sched_getaffinity(0))}
    pid = shared._pid.result()
    before = os.sched_getaffinity(pid)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for process in (pid, other.pid):
            os.sched_setaffinity(process, core)
        started = time.perf_counter()
        _, took = shared.answer([COMPUTE])
        elapsed = 1000 * (time.perf_counter() - started)
    finally:
        os.sched_setaffinity(pid, before)
        other.kill()
        other.wait()
    assert elapsed > 600  # a scheduler that groups processes by session gives the other one less than half
    assert 450 <= took < 0.9 * elapsed


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("answer.drop(index=0, inplace=True)", "1 answers to 2 inputs"),
        ("answer.loc[len(answer)] = [0.8, 0.1, 0.1]", "3 answers to 2 inputs"),
        ("answer.iloc[0] = float('nan')", "the score nan, which is not a number"),
        ("raise ValueError('no such feature')", "1 of 2 inputs failed"),
        ("answer.drop(columns=LABELS[0], inplace=True)", "1 of 2 inputs failed"),
        ("bytearray(2**32)", "1 of 2 inputs failed"),
    ],
    ids=["too few", "too many", "no number", "an exception", "a class too few", "no memory"],
)
def test_an_invalid_answer_is_rejected(shared: AnsweringVersion, code: str, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        shared.answer(["가", f"!{code}"])
    assert len(shared.answer(["가"])[0]) == 1


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
            r"not in the manifest: \['\\x1b\[31mother'\]",
        ),
        ("Classification(labels[0].name, 1.0, {labels[0].name: 1.0})", "no score for the classes"),
        (
            "Classification(labels[0].name, 1.0, {**{label.name: 0.5 for label in labels}, 'x' * 10**6: 0.5})",
            "not in the manifest",
        ),
        ("Classification(labels[0].name, 2.0, {label.name: 0.5 for label in labels})", "the score 2.0"),
        ("Classification(labels[0].name, 1.0, {label.name: float('inf') for label in labels})", "the score inf"),
        ("{'label': 1}", "not the answers to a batch"),
    ],
)
def test_answers_are_validated_against_the_manifest(shared: AnsweringVersion, forged: str, reason: str) -> None:
    """Third-party code can replace ours in its process, so answers are validated in the sidecar."""
    with pytest.raises(RejectedError, match=reason) as rejected:
        shared.answer([f"!{PATCH.format(forged=forged)}"])
    assert str(rejected.value).isprintable()
    assert len(str(rejected.value)) <= 2000


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.write(FD, struct.pack('<I', 3) + b'\\x80\\x04.'); time.sleep(60)", "not the answers to a batch"),
        ("os.write(FD, struct.pack('<I', 2**31))", "a frame of 2147483648 bytes is announced"),
        ("os.write(FD, struct.pack('<I', 1) + b'xx')", "more bytes were received than the frame's length"),
        (PATCH.format(forged="Classification('x' * 3 * 10**6, 1.0, {})"), "bytes is announced; at most 2097152"),
    ],
    ids=["a pickle", "a giant frame", "too much", "an answer that is too long"],
)
def test_an_invalid_frame_is_the_versions_fault(start: Start, code: str, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        start().answer([f"!{code}"])


def test_an_answer_before_the_request_is_rejected(start: Start) -> None:
    version = start()
    version.answer(["!import threading; threading.Timer(0.2, os.write, (FD, bytes(4))).start()"])
    time.sleep(1)
    with pytest.raises(RejectedError, match="an answer before a request"):
        version.answer(["가"])


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
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("os.write(FD, struct.pack('<I', 9)); os._exit(1)", "exited with code 1"),
        ("os._exit(0)", "ended before it answered"),
        ("import socket; socket.socket(fileno=FD).shutdown(socket.SHUT_RDWR); time.sleep(60)", "closed its connection"),
        (CLAIM, "ended: the disk is full"),
    ],
    ids=["is killed", "exits within a frame", "exits", "closes the connection", "reports an environment error"],
)
def test_a_version_that_ends_has_crashed(start: Start, monkeypatch: pytest.MonkeyPatch, code: str, reason: str) -> None:
    monkeypatch.setattr(module, "EXIT_SECONDS", 1.0)
    with pytest.raises(ImportCrashedError, match=reason):
        start().answer([f"!{code}"])


@pytest.mark.usefixtures("quiet_machine")
def test_a_version_that_hangs_is_given_up_in_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0)
    version = start()
    started = time.monotonic()
    with pytest.raises(ImportCrashedError, match="did not answer within 1 s"):
        version.answer(["!time.sleep(600)"])
    with pytest.raises(ImportCrashedError, match="did not answer within 1 s"):
        version.answer(["x" * 10_000_000])  # more than the socket's buffer takes
    version._deadline = Deadline.start(0.5, threading.Event())
    with pytest.raises(EvaluationTimeoutError, match=r"did not finish within 0\.5 s"):
        version.answer(["x" * 10_000_000])
    version._deadline = Deadline.start(600, threading.Event())
    version._deadline.stopping.set()
    with pytest.raises(SyncCancelledError):
        version.answer(["x" * 10_000_000])
    assert time.monotonic() - started < 20


@pytest.mark.usefixtures("busy_machine")
def test_a_version_that_is_late_on_a_busy_machine_has_not_crashed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0)
    version = start()
    with pytest.raises(UndecidedError, match="did not answer within 1 s, but the machine is busy"):
        version.answer(["!time.sleep(600)"])
    version._deadline = Deadline(time.monotonic(), 600, threading.Event())
    with pytest.raises(UndecidedError, match="did not finish within 600 s, but the machine is busy"):
        version.answer(["x" * 10_000_000])


@pytest.mark.usefixtures("quiet_machine")
def test_an_answer_that_arrives_byte_by_byte_is_too_late(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0)
    with pytest.raises(ImportCrashedError, match="did not answer within 1 s"):
        start().answer(["!os.write(FD, struct.pack('<I', 999))\nwhile os.write(FD, b'x'): time.sleep(0.05)"])


@with_landlock
@pytest.mark.parametrize("name", [f"models/sentiment/{REFERENCE}", f"models/sentiment/{GOLDEN}", f"models/kcbert/{REFERENCE}"])
def test_labels_and_answers_of_other_versions_cannot_be_read(shared: AnsweringVersion, name: str) -> None:
    file = MODELS.parent / name
    assert file.is_file()
    report = f"answer.iloc[0] = [0.8, 0.1, 0.1] if found({str(file)!r}) else [0.1, 0.1, 0.8]"
    found = "def found(file):\n    try: return bool(open(file).read())\n    except PermissionError: return False\n"
    [answer] = shared.answer([f"!{found}{report}"])[0]
    assert answer.label == LABELS[2]  # type: ignore[union-attr]


def test_a_version_can_read_its_own_folder(shared: AnsweringVersion, version: VersionFolder) -> None:
    assert shared.answer([f"!open({str(version.folder / GOLDEN)!r}).read()"])[0]


def test_a_version_that_cannot_be_loaded_is_rejected_with_a_printable_reason(start: Start, tmp_path: Path) -> None:
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


def test_a_program_that_cannot_start_is_an_environment_error(version: VersionFolder, tmp_path: Path) -> None:
    settings = SandboxSettings(Path("/nowhere/python"), tmp_path, LIMITS, threading.Event())
    with (
        pytest.raises(ImportEnvironmentError, match="could not start"),
        answering(version, "candidate", settings, Deadline.start(60, settings.stopping)),
    ):
        pass
