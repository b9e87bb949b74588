"""Arguments, output and exit codes. A fake executes the commands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bunriwiki.model_store.generation import Canary, Target
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.status import SidecarStatus, StoredModelStatus, StoredVersion, StoreStatus, WorkerStatus
from bunriwiki.model_store.sync_state import ModelSync
from bunriwiki.settings import CommonSettings
from bunriwiki.testing.keys import make_keys
from model_sync.admin.image_rollout_commands import ImageRolloutCommand
from model_sync.admin.results import (
    Aborted,
    Cancelled,
    Collected,
    Paused,
    Pinned,
    Promoted,
    Removed,
    Resumed,
    RolledBack,
    Unpinned,
)
from model_sync.cli.exits import CliError, Exit
from model_sync.cli.main import main
from model_sync.cli.operators import Operator, Reader
from model_sync.cli.remote import SyncProgress
from model_sync.cli.words import Words
from model_sync.envelope import DEFAULT_DAYS
from model_sync.errors import CommandError, PublishError
from model_sync.publishing.publisher import Published, Publisher
from model_sync.rollout.state import Image, Phase, Rollout
from model_sync.rollout.status import RolloutStatus
from model_sync.signing import Signed
from model_sync.syncing.requests import Outcome, SyncStatus

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ESCAPE = "\x1b[2J"


def target(version: str) -> Target:
    return Target(version=version, since=AT, source="s3://bucket", by="poll")


BAD = Quarantined(model="yolo", version="v1", digest="d", reason=f"it is slow {ESCAPE}", at=AT)
YOLO = StoredModelStatus(
    name="yolo", generation=3, serving=target("v2"), previous=None, preparing=None, canary=None, paused=None, pinned=True,
    held=("v3",), cancelled=None,
    versions=(
        StoredVersion(version="v3", size_bytes=12_345_678, published_at=AT),
        StoredVersion(version="v2", size_bytes=5, published_at=AT),
    ),
    quarantined=(BAD,),
    workers=(WorkerStatus(name="w1", host="here", pid=1, state="ready", generation=3, serving="v2", loaded={},
                          errors={"v3": "no"}, rss_bytes=1_000_000, heartbeat_age_seconds=0.1),),
    sync=ModelSync(source="s3://bucket", status="unreachable", reason="S3 cannot be reached"),
)  # fmt: skip
KCBERT = YOLO.model_copy(
    update={"name": "kcbert", "serving": None, "versions": (), "quarantined": (), "workers": (), "held": (), "sync": None}
)
STATUS = StoreStatus(
    sidecar=SidecarStatus(alive=True, host="here", pid=7, since=AT, problems=("SQS: no queue",)), models=(YOLO, KCBERT)
)


BEGUN = Rollout(
    number=2, new=Image(name="image:2", versions={"yolo": "v2"}), old=Image(name="image:1"), wanted=2, phase="rolling", began=AT
)
BACK = BEGUN.model_copy(update={"phase": "rolled_back", "ended": AT, "cause": "answers", "reason": f"it is bad {ESCAPE}"})
ROLLING = RolloutStatus(
    alive=True, rollout=BEGUN, replaced=1, paused=False, waiting="2/2", problem=None, results=(BACK,)
)  # fmt: skip


class Fake:
    """Executes nothing and records every call; raises `raises`, if set."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.raises: Exception | None = None
        self.sync_status: SyncStatus = "promoted"
        self.current = STATUS
        self.events = [Event(at=AT, kind="activated", model="yolo", version="v2", by="operator", workers=2)]
        self.models: Sequence[str] = ("yolo", "kcbert")
        self.rollout = ROLLING

    def _record(self, *call: Any) -> None:
        self.calls.append(call)
        if self.raises:
            raise self.raises

    def status(self) -> StoreStatus:
        self._record("status")
        return self.current

    def history(self, model: str | None = None, last: int = 50) -> list[Event]:
        self._record("history", model, last)
        return self.events

    def rollback(self, model: str, version: str | None = None) -> RolledBack:
        self._record("rollback", model, version)
        return RolledBack(model=model, left="v3", to=version or "v2", workers=2, seconds=1.5)

    def pin(self, model: str, version: str | None = None) -> Pinned:
        self._record("pin", model, version)
        return Pinned(model=model, version=version or "fallback", workers=2, seconds=0.1)

    def unpin(self, model: str) -> Unpinned:
        self._record("unpin", model)
        return Unpinned(model=model, was_pinned=True, released=("v3",))

    def pause(self, model: str) -> Paused:
        self._record("pause", model)
        return Paused(model=model, version="v4")

    def resume(self, model: str) -> Resumed:
        self._record("resume", model)
        return Resumed(model=model, version="v4", was_paused=len(self.calls) == 1)

    def promote(self, model: str) -> Promoted:
        self._record("promote", model)
        return Promoted(model=model, version="v4", workers=2, seconds=0.7)

    def abort(self, model: str) -> Aborted:
        self._record("abort", model)
        return Aborted(model=model, version="v4")

    def cancel(self, model: str) -> Cancelled:
        self._record("cancel", model)
        return Cancelled(model=model, version="v4")

    def quarantine(self, model: str, version: str, reason: str) -> Quarantined:
        self._record("quarantine", model, version, reason)
        return BAD

    def release(self, model: str, version: str) -> None:
        self._record("release", model, version)

    def gc(self) -> Collected:
        self._record("gc")
        return Collected(removed=(Removed(model="yolo", version="v0", size_bytes=2_000_000),))

    def image_rollout_status(self) -> RolloutStatus:
        self._record("rollout status")
        return self.rollout

    def image_rollout(self, command: ImageRolloutCommand) -> RolloutStatus:
        self._record("rollout", command)
        return self.rollout

    def sync(
        self, models: Sequence[str] | None, *, force: bool, wait: bool, progress: SyncProgress
    ) -> dict[str, Outcome] | None:
        self._record("sync", models, force, wait)
        found = {
            model: Outcome(model, self.sync_status, "v4", "why") for model in self.models if models is None or model in models
        }
        return found if wait else None

    @contextmanager
    def reader(self, settings: CommonSettings, words: Words) -> Iterator[Reader]:
        yield self

    @contextmanager
    def operator(self, settings: CommonSettings, words: Words, *, creates: bool = False) -> Iterator[Operator]:
        self.creates = creates
        yield self


@pytest.fixture
def fake() -> Fake:
    return Fake()


Capture = pytest.CaptureFixture[str]


def run(fake: Fake, line: str, capsys: Capture) -> tuple[int, str]:
    code = main(line.split(), fake)
    out, err = capsys.readouterr()
    assert code != Exit.DONE or not err
    return code, out + err


def run_json(fake: Fake, line: str, capsys: Capture) -> tuple[int, Any]:
    code = main([*line.split(), "--json"], fake)
    out, err = capsys.readouterr()
    assert not err
    return code, json.loads(out)


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("status", ("status",)),
        ("history", ("history", None, 50)),
        ("history yolo --last 3", ("history", "yolo", 3)),
        ("rollback yolo", ("rollback", "yolo", None)),
        ("rollback yolo --to v1", ("rollback", "yolo", "v1")),
        ("pin yolo", ("pin", "yolo", None)),
        ("pin --to v1 yolo", ("pin", "yolo", "v1")),
        ("unpin yolo", ("unpin", "yolo")),
        ("pause yolo", ("pause", "yolo")),
        ("resume yolo", ("resume", "yolo")),
        ("promote yolo", ("promote", "yolo")),
        ("abort yolo", ("abort", "yolo")),
        ("cancel yolo", ("cancel", "yolo")),
        ("quarantine list", ("status",)),
        ("quarantine add yolo v1 --reason slow", ("quarantine", "yolo", "v1", "slow")),
        ("quarantine release yolo v1", ("release", "yolo", "v1")),
        ("gc", ("gc",)),
        ("rollout status", ("rollout status",)),
        ("rollout start", ("rollout", "start")),
        ("rollout pause", ("rollout", "pause")),
        ("rollout resume", ("rollout", "resume")),
        ("rollout approve", ("rollout", "approve")),
        ("rollout cancel", ("rollout", "cancel")),
        ("rollout undo", ("rollout", "undo")),
        ("sync", ("sync", None, False, True)),
        ("sync kcbert yolo kcbert --force", ("sync", ["kcbert", "yolo"], True, True)),
        ("sync --no-wait", ("sync", None, False, False)),
    ],
)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_arguments_of_commands(fake: Fake, capsys: Capture, line: str, call: tuple[Any, ...], language: str) -> None:
    code, said = run(fake, f"--lang {language} {line}", capsys)
    assert (code, fake.calls) == (Exit.DONE, [call])
    assert said
    assert ESCAPE not in said  # a reason cannot control the terminal


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("status", {"sidecar", "models"}),
        ("history", {"events"}),
        ("rollback yolo", {"model", "from", "to", "workers", "seconds"}),
        ("pin yolo", {"model", "version", "workers", "seconds"}),
        ("unpin yolo", {"model", "was_pinned", "released"}),
        ("pause yolo", {"model", "version"}),
        ("resume yolo", {"model", "version", "was_paused"}),
        ("promote yolo", {"model", "version", "workers", "seconds"}),
        ("abort yolo", {"model", "version"}),
        ("cancel yolo", {"model", "version"}),
        ("quarantine list", {"quarantined"}),
        ("quarantine add yolo v1 --reason slow", {"model", "version", "digest", "signature", "reason", "at"}),
        ("quarantine release yolo v1", {"model", "version"}),
        ("gc", {"removed"}),
        ("rollout status", {"alive", "rollout", "replaced", "paused", "waiting", "problem", "results"}),
        ("rollout undo", {"alive", "rollout", "replaced", "paused", "waiting", "problem", "results"}),
        ("sync", {"outcomes"}),
        ("sync --no-wait", {"outcomes"}),
    ],
)
def test_json_for_programs(fake: Fake, capsys: Capture, line: str, keys: set[str]) -> None:
    code, found = run_json(fake, line, capsys)
    assert (code, found.keys()) == (Exit.DONE, keys)


def test_the_rollout_for_people(fake: Fake, capsys: Capture) -> None:
    _, said = run(fake, "rollout status", capsys)
    assert "1 of 2 replicas have image:2 instead of image:1" in said
    assert "2/2" in said
    assert "yolo=v2" in said
    fake.rollout = ROLLING.model_copy(update={"rollout": BACK, "alive": False, "paused": True, "problem": "no space"})
    _, said = run(fake, "rollout status", capsys)
    for text in ("image:2 was left", "reason: it is bad", "paused", "no space", "no sign of life"):
        assert text in said
    fake.rollout = ROLLING.model_copy(update={"rollout": None, "results": ()})
    assert "no rollout yet" in run(fake, "rollout status", capsys)[1]


@pytest.mark.parametrize("phase", get_args(Phase))
@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_phase_has_a_sentence(fake: Fake, capsys: Capture, phase: Phase, language: str) -> None:
    fake.rollout = ROLLING.model_copy(update={"rollout": BEGUN.model_copy(update={"phase": phase})})
    assert "image:2" in run(fake, f"--lang {language} rollout status", capsys)[1]


def test_the_keys_of_the_status(fake: Fake, capsys: Capture) -> None:
    _, found = run_json(fake, "status", capsys)
    assert found["models"][0].keys() == {
        "name", "generation", "serving", "previous", "preparing", "canary", "paused", "pinned", "held", "cancelled",
        "versions", "quarantined", "workers", "sync",
    }  # fmt: skip
    assert found["models"][0]["versions"][0].keys() == {"version", "size_bytes", "published_at"}
    assert found["models"][0]["workers"][0].keys() == {
        "name", "host", "pid", "state", "generation", "serving", "loaded", "errors", "rss_bytes", "heartbeat_age_seconds",
    }  # fmt: skip
    assert found["sidecar"].keys() == {"alive", "host", "pid", "since", "problems"}
    assert run_json(fake, "history", capsys)[1]["events"][0]["workers"] == 2
    assert run_json(fake, "sync", capsys)[1]["outcomes"]["yolo"].keys() == {
        "model", "status", "version", "reason", "retry_seconds",
    }  # fmt: skip


def test_the_status_for_people(fake: Fake, capsys: Capture) -> None:
    said = run(fake, "status", capsys)[1]
    for text in (
        "1 × v2",
        "fallback",
        "12.3",
        "held",
        "it is slow",
        "v3=no",
        "S3 cannot be reached",
        "process 7 on here",
        "SQS: no queue",
    ):
        assert text in said
    korean = run(fake, "--lang ko status", capsys)[1]
    assert all(text in korean for text in ("서비스 중", "보류", "here의 프로세스 7"))


def test_the_status_of_a_canary_and_of_a_decision_for_the_fallback(fake: Fake, capsys: Capture) -> None:
    canary = {"preparing": target("v4"), "canary": Canary(share=0.1)}
    for fields, text in (
        (canary, "v4 10% "),
        ({**canary, "paused": "v4"}, "v4 10% (paused)"),
        ({"paused": "v4"}, "v4 (paused)"),
        ({"serving": target("fallback"), "held": ()}, "yolo   fallback  2026-11-22"),
    ):
        fake.current = STATUS.model_copy(update={"models": (YOLO.model_copy(update=fields),)})
        assert text in run(fake, "status", capsys)[1], fields
    assert "기본 모델" in run(fake, "--lang ko status", capsys)[1]


def test_what_a_rollback_says_about_the_fallback(fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fallback serves instead of v3" in run(fake, "rollback yolo --to fallback", capsys)[1]
    done = RolledBack(model="yolo", left="fallback", to="v1", workers=2, seconds=0.1)
    monkeypatch.setattr(fake, "rollback", lambda *_: done)
    assert run(fake, "rollback yolo --to v1", capsys)[1].startswith("yolo: v1 serves instead of the fallback model")


def test_a_canary_that_was_not_paused(fake: Fake, capsys: Capture) -> None:
    assert "v4 is no longer paused" in run(fake, "resume yolo", capsys)[1]
    assert "v4 was not paused" in run(fake, "resume yolo", capsys)[1]


@pytest.mark.parametrize(("sidecar", "message"), [(None, "never ran"), (False, "not running")])
def test_the_status_without_a_sidecar(fake: Fake, capsys: Capture, sidecar: bool | None, message: str) -> None:
    ended = STATUS.sidecar.model_copy(update={"alive": False}) if STATUS.sidecar else None
    fake.current = STATUS.model_copy(update={"sidecar": None if sidecar is None else ended})
    assert message in run(fake, "status", capsys)[1]


def test_empty_results(fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.events = []
    fake.current = STATUS.model_copy(update={"models": (KCBERT,)})
    monkeypatch.setattr(Fake, "gc", lambda _: Collected(removed=()))
    assert "There are no events yet" in run(fake, "history", capsys)[1]
    assert "No version is in quarantine" in run(fake, "quarantine list", capsys)[1]
    assert "Nothing was deleted" in run(fake, "gc", capsys)[1]
    assert run_json(fake, "history", capsys) == (Exit.DONE, {"events": []})


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("promoted", Exit.DONE), ("unchanged", Exit.DONE), ("pinned", Exit.DONE), ("held", Exit.DONE),
        ("cancelled", Exit.DONE),
        ("rejected", Exit.REJECTED), ("failed", Exit.FAILED), ("unreachable", Exit.UNREACHABLE),
        ("undecided", Exit.UNDECIDED),
    ],
)  # fmt: skip
def test_the_exit_code_of_a_sync(fake: Fake, capsys: Capture, status: SyncStatus, code: Exit) -> None:
    fake.sync_status = status
    assert run(fake, "sync", capsys)[0] == code
    assert run_json(fake, "sync", capsys)[1]["outcomes"]["yolo"]["status"] == status


def test_a_model_without_a_registry_is_an_error(fake: Fake, capsys: Capture) -> None:
    code, said = run(fake, "sync sentiment", capsys)
    assert (code, "No registry is configured for sentiment" in said) == (Exit.USAGE, True)
    fake.models = ()
    assert run(fake, "sync", capsys)[0] == Exit.USAGE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("nothing", "no way back"), Exit.REJECTED),
        (CommandError("unknown", "no such version"), Exit.REJECTED),
        (CommandError("quarantined", "it is slow"), Exit.REJECTED),
        (CommandError("invalid", "no name"), Exit.USAGE),
        (CommandError("failed", "the disk is full"), Exit.FAILED),
        (CliError(Exit.UNREACHABLE, "nobody answers"), Exit.UNREACHABLE),
        (CliError(Exit.USAGE, "no token"), Exit.USAGE),
    ],
)
def test_errors_and_their_exit_codes(fake: Fake, capsys: Capture, error: Exception, code: Exit) -> None:
    fake.raises = error
    assert run(fake, "rollback yolo", capsys) == (code, f"{error}\n")
    assert run_json(fake, "rollback yolo", capsys) == (code, {"error": {"exit": int(code), "message": str(error)}})


def test_only_a_sync_may_create_a_store(fake: Fake, capsys: Capture) -> None:
    for line, creates in (("sync", True), ("rollback yolo", False), ("gc", False)):
        run(fake, line, capsys)
        assert fake.creates is creates


@pytest.mark.parametrize(
    "line",
    [
        "", "nothing", "rollback", "rollback resnet", "rollback yolo v1", "sync resnet", "history --last 0", "history --last x",
        "quarantine", "quarantine add yolo v1", "publish yolo x", "status --lang fr", "rollback yolo --t v1",
    ],
)  # fmt: skip
def test_an_invalid_command_line_ends_with_2(fake: Fake, capsys: Capture, line: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split(), fake)
    assert (caught.value.code, fake.calls) == (Exit.USAGE, [])
    assert "usage: python -m model_sync" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--help"], ["usage: ", "exit codes:", "4  the sidecar"]),
        (["--lang", "ko", "--help"], ["사용법: ", "종료 코드:", "명령:"]),
        (["rollback", "--help", "--lang", "ko"], ["되돌리고", "옵션:"]),
        (["quarantine", "add", "--help"], ["quarantine a version on disk", "--reason TEXT"]),
    ],
)
def test_the_help_is_in_one_language(fake: Fake, capsys: Capture, arguments: list[str], texts: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments, fake)
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert all(text in said for text in texts), said
    foreign = ("usage:", "options:", "show this") if "ko" in arguments else ("사용법",)
    assert not any(text in said for text in foreign)


def test_the_locale_chooses_the_language(fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "ko_KR.UTF-8")
    assert "서비스합니다" in run(fake, "rollback yolo", capsys)[1]


def test_an_invalid_setting_ends_with_2(fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SYNC_URL", "nowhere")
    code, said = run(fake, "status", capsys)
    assert (code, "BUNRIWIKI_SYNC_URL" in said) == (Exit.USAGE, True)
    monkeypatch.setenv("BUNRIWIKI_SYNC_URL", "")
    monkeypatch.setenv("BUNRIWIKI_POLL_INTERVAL_SECONDS", "-1")
    assert run(fake, "run", capsys)[0] == Exit.USAGE  # before the sidecar starts


def test_an_interrupted_command_ends_with_130(fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Fake) -> StoreStatus:
        raise KeyboardInterrupt

    monkeypatch.setattr(Fake, "status", interrupt)
    assert main(["status"], fake) == Exit.INTERRUPTED


def test_the_log_level_is_in_the_store_until_it_is_the_usual_one(
    fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BUNRIWIKI_MODEL_STORE", str(tmp_path))
    assert run_json(fake, "log-level DEBUG", capsys) == (Exit.DONE, {"level": "DEBUG"})
    assert Layout(tmp_path).log_level.read_text() == "DEBUG\n"
    assert CommonSettings().logs("sidecar").level_file == Layout(tmp_path).log_level
    assert run_json(fake, "log-level usual", capsys) == (Exit.DONE, {"level": None})
    assert not Layout(tmp_path).log_level.exists()
    monkeypatch.setenv("BUNRIWIKI_MODEL_STORE", str(tmp_path / "nowhere"))
    assert main(["log-level", "DEBUG"], fake) == Exit.FAILED
    assert "No such file" in capsys.readouterr().err


def test_run_starts_the_sidecar(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    monkeypatch.setattr("model_sync.sidecar.run", ran.append)
    monkeypatch.setattr("bunriwiki.telemetry.logs.configure", ran.append)
    assert main(["run"], fake) == Exit.DONE
    assert ran[0] == CommonSettings().logs("sidecar")
    assert type(ran[1]).__name__ == "SyncSettings"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Records what is published."""
    found: list[tuple[Any, ...]] = []

    class RecordingPublisher(Publisher):
        def publish(
            self, model: str, path: Path, version: str, *, key: object = None, days: float = 0, progress: Any = None
        ) -> Published:
            assert days == DEFAULT_DAYS
            found.append((model, path, version, key is not None))
            progress("upload", 5, 5)
            if version == "taken":
                raise PublishError("rejected", "it exists already")
            return Published(
                model=model, version=version, uri="s3://bucket/x", digest="d", size_bytes=5, uploaded=("a",),
                present=("b", "c"), history=("events",) if version == "v3" else (), announced=version != "v1", signed=False,
            )  # fmt: skip

    monkeypatch.setattr("model_sync.publishing.publisher.Publisher", RecordingPublisher)
    monkeypatch.setenv("BUNRIWIKI_S3_URI", "s3://bucket/x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return found


def test_a_version_is_published(fake: Fake, capsys: Capture, published: list[tuple[Any, ...]]) -> None:
    code, said = run(fake, "publish yolo best.pt --version v2", capsys)
    assert (code, published) == (Exit.DONE, [("yolo", Path("best.pt"), "v2", False)])
    assert "s3://bucket/x is published: 1 files uploaded, 2 already there" in said
    assert "was published before" in run(fake, "publish yolo best.pt --version v1", capsys)[1]
    assert run_json(fake, "publish yolo best.pt --version v2", capsys)[1].keys() == {
        "model", "version", "uri", "digest", "size_bytes", "uploaded", "present", "history", "announced", "signed",
    }  # fmt: skip
    assert (
        "Its training history is beside it, for TensorBoard: 1 files."
        in run(fake, "publish yolo best.pt --version v3", capsys)[1]
    )
    assert run(fake, "publish yolo best.pt --version taken", capsys) == (Exit.REJECTED, "it exists already\n")


def test_a_version_is_signed(fake: Fake, capsys: Capture, published: list[tuple[Any, ...]], tmp_path: Path) -> None:
    assert run(fake, f"publish yolo best.pt --version v2 --sign {tmp_path / 'none'}", capsys)[0] == Exit.USAGE
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(key)
    assert run(fake, f"publish yolo best.pt --version v2 --sign {tmp_path / 'key.pem'}", capsys)[0] == Exit.DONE
    assert published == [("yolo", Path("best.pt"), "v2", True)]


def test_publishing_needs_a_bucket(fake: Fake, capsys: Capture) -> None:
    code, said = run(fake, "publish yolo best.pt --version v2", capsys)
    assert (code, "BUNRIWIKI_S3_URI" in said) == (Exit.USAGE, True)


@pytest.fixture
def to_sign(tmp_path: Path) -> str:
    """The beginning of a command line that signs a folder."""
    private, _ = make_keys(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    return f"sign sentiment {tmp_path / 'model'} --version 7 --key {private}"


def test_a_signature_is_printed_alone(fake: Fake, capsys: Capture, to_sign: str, tmp_path: Path) -> None:
    code, said = run(fake, to_sign, capsys)
    assert code == Exit.DONE
    assert re.fullmatch(r"\d{10}\.\d{10}\.[A-Za-z0-9+/=]{88}\n", said)
    code, signed = run_json(fake, f"{to_sign} --valid-days 1", capsys)
    counter, expires, _ = signed["signature"].split(".")
    assert int(expires) - int(counter) == 86_400
    assert signed.keys() == {"model", "version", "files", "signature", "uri"}
    assert (code, signed["uri"]) == (Exit.DONE, None)
    assert [(path, size) for path, size, _ in signed["files"]] == [("MLmodel", 11)]
    key = f"--key {tmp_path / 'key.pem'}"
    assert run(fake, to_sign.replace(key, f"--key {tmp_path / 'key.public.pem'}"), capsys)[0] == Exit.USAGE
    (tmp_path / "model" / "MLmodel").unlink()
    assert run(fake, to_sign, capsys)[0] == Exit.REJECTED


@pytest.mark.parametrize(
    ("typed", "sources", "name"),
    [
        ("--mlflow", "", "ensemble-sentiment-model"),
        ("--mlflow", "sentiment=mlflow:feelings", "feelings"),
        ("--mlflow", "sentiment=s3", "ensemble-sentiment-model"),
        ("--mlflow another", "sentiment=mlflow:feelings", "another"),
    ],
)
def test_a_version_in_mlflow_is_tagged(
    fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch, to_sign: str, typed: str, sources: str, name: str
) -> None:
    tagged: list[tuple[str, str]] = []

    def tag(signed: Signed, tracking_uri: str, name: str) -> Signed:
        tagged.append((tracking_uri, name))
        if len(tagged) > 1:
            raise PublishError("unreachable", "it is down")
        return signed.model_copy(update={"uri": f"models:/{name}/{signed.version}"})

    monkeypatch.setattr("model_sync.tagging.tag", tag)
    line = f"{to_sign} {typed}"
    assert run(fake, line, capsys) == (Exit.USAGE, "MLFLOW_TRACKING_URI is not set.\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    if sources:
        monkeypatch.setenv("BUNRIWIKI_SOURCES", sources)
    code, said = run(fake, line, capsys)
    assert (code, f"models:/{name}/7 is signed" in said) == (Exit.DONE, True)
    assert tagged == [("http://mlflow", name)]
    assert run(fake, line, capsys) == (Exit.UNREACHABLE, "it is down\n")


def test_the_help_says_where_to_store_a_signature(capsys: Capture) -> None:
    for lang in ("en", "ko"):
        with pytest.raises(SystemExit):
            main(["sign", "--help", "--lang", lang])
        said = capsys.readouterr().out
        assert all(text in said for text in ("bunriwiki.signature", "--mlflow", "`signature`", "latest_model.yaml"))
