"""What is typed, what is shown, and the exit codes; whoever carries it out is a fake."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bunriwiki.model_store.generation import Target
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.sync_state import ModelSync
from model_sync.admin.commands import Collected, Pinned, Removed, RolledBack, Unpinned
from model_sync.admin.status import ModelStatus, SidecarStatus, StoredVersion, StoreStatus, Worker
from model_sync.cli.exits import CliError, Exit
from model_sync.cli.main import main
from model_sync.cli.operators import Operator, Reader
from model_sync.cli.remote import Tell
from model_sync.cli.settings import CliSettings
from model_sync.cli.words import Words
from model_sync.errors import CommandError, PublishError
from model_sync.publishing import Published, Publisher
from model_sync.signing import Signed
from model_sync.syncing.requests import Outcome, Verdict
from tests.keys import make_keys

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ESCAPE = "\x1b[2J"


def target(version: str) -> Target:
    return Target(version=version, since=AT, source="s3://bucket", by="poll")


BAD = Quarantined(model="yolo", version="v1", digest="d", reason=f"it is slow {ESCAPE}", at=AT)
YOLO = ModelStatus(
    model="yolo", generation=3, serving=target("v2"), previous=None, preparing=None, pinned=True, held=("v3",),
    versions=(StoredVersion(version="v3", bytes=12_345_678, published=AT), StoredVersion(version="v2", bytes=5, published=AT)),
    quarantined=(BAD,),
    workers=(Worker(worker="w1", host="here", pid=1, state="ready", generation=3, serving="v2", loaded={}, errors={"v3": "no"},
                    rss=1_000_000, seconds_since_heard=0.1),),
    sync=ModelSync(source="s3://bucket", status="unreachable", reason="S3 cannot be reached"),
)  # fmt: skip
KCBERT = YOLO.model_copy(
    update={"model": "kcbert", "serving": None, "versions": (), "quarantined": (), "workers": (), "held": (), "sync": None}
)
STATUS = StoreStatus(
    sidecar=SidecarStatus(alive=True, host="here", pid=7, since=AT, problems=("SQS: no queue",)), models=(YOLO, KCBERT)
)


class Fake:
    """Carries out nothing, notes everything; `raises` is raised instead."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.raises: Exception | None = None
        self.status: Verdict = "promoted"
        self.standing = STATUS
        self.events = [Event(at=AT, kind="activated", model="yolo", version="v2", by="operator", workers=2)]
        self.models: Sequence[str] = ("yolo", "kcbert")

    def _note(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.raises:
            raise self.raises

    def status(self) -> StoreStatus:
        self._note("status")
        return self.standing

    def history(self, model: str | None = None, last: int = 50) -> list[Event]:
        self._note("history", model, last)
        return self.events

    def rollback(self, model: str, version: str | None = None) -> RolledBack:
        self._note("rollback", model, version)
        return RolledBack(model=model, left="v3", to=version or "v2", workers=2, seconds=1.5)

    def pin(self, model: str, version: str | None = None) -> Pinned:
        self._note("pin", model, version)
        return Pinned(model=model, version=version, workers=2, seconds=0.1)

    def unpin(self, model: str) -> Unpinned:
        self._note("unpin", model)
        return Unpinned(model=model, was_pinned=True, released=("v3",))

    def quarantine(self, model: str, version: str, reason: str) -> Quarantined:
        self._note("quarantine", model, version, reason)
        return BAD

    def release(self, model: str, version: str) -> None:
        self._note("release", model, version)

    def gc(self) -> Collected:
        self._note("gc")
        return Collected(removed=(Removed(model="yolo", version="v0", bytes=2_000_000),))

    def sync(self, models: Sequence[str] | None, *, force: bool, wait: bool, tell: Tell) -> dict[str, Outcome] | None:
        self._note("sync", models, force, wait)
        found = {model: Outcome(model, self.status, "v4", "why") for model in self.models if models is None or model in models}
        return found if wait else None

    @contextmanager
    def reader(self, settings: CliSettings, words: Words) -> Iterator[Reader]:
        yield self

    @contextmanager
    def operator(self, settings: CliSettings, words: Words, *, creates: bool = False) -> Iterator[Operator]:
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
    ("line", "asked"),
    [
        ("status", ("status",)),
        ("history", ("history", None, 50)),
        ("history yolo --last 3", ("history", "yolo", 3)),
        ("rollback yolo", ("rollback", "yolo", None)),
        ("rollback yolo --to v1", ("rollback", "yolo", "v1")),
        ("pin yolo", ("pin", "yolo", None)),
        ("pin --to v1 yolo", ("pin", "yolo", "v1")),
        ("unpin yolo", ("unpin", "yolo")),
        ("quarantine list", ("status",)),
        ("quarantine add yolo v1 --reason slow", ("quarantine", "yolo", "v1", "slow")),
        ("quarantine release yolo v1", ("release", "yolo", "v1")),
        ("gc", ("gc",)),
        ("sync", ("sync", None, False, True)),
        ("sync kcbert yolo kcbert --force", ("sync", ["kcbert", "yolo"], True, True)),
        ("sync --no-wait", ("sync", None, False, False)),
    ],
)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_what_is_typed_is_asked_for(fake: Fake, capsys: Capture, line: str, asked: tuple[Any, ...], language: str) -> None:
    code, said = run(fake, f"--lang {language} {line}", capsys)
    assert (code, fake.asked) == (Exit.DONE, [asked])
    assert said
    assert ESCAPE not in said  # nobody's reason steers the terminal


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("status", {"sidecar", "models"}),
        ("history", {"events"}),
        ("rollback yolo", {"model", "from", "to", "workers", "seconds"}),
        ("pin yolo", {"model", "version", "workers", "seconds"}),
        ("unpin yolo", {"model", "was_pinned", "released"}),
        ("quarantine list", {"quarantined"}),
        ("quarantine add yolo v1 --reason slow", {"model", "version", "digest", "signature", "reason", "at"}),
        ("quarantine release yolo v1", {"model", "version"}),
        ("gc", {"removed"}),
        ("sync", {"outcomes"}),
        ("sync --no-wait", {"outcomes"}),
    ],
)
def test_programs_get_json(fake: Fake, capsys: Capture, line: str, keys: set[str]) -> None:
    code, found = run_json(fake, line, capsys)
    assert (code, found.keys()) == (Exit.DONE, keys)


def test_the_keys_of_the_status_hold(fake: Fake, capsys: Capture) -> None:
    _, found = run_json(fake, "status", capsys)
    assert found["models"][0].keys() == {
        "model", "generation", "serving", "previous", "preparing", "pinned", "held", "versions", "quarantined", "workers",
        "sync",
    }  # fmt: skip
    assert found["models"][0]["versions"][0].keys() == {"version", "bytes", "published"}
    assert found["models"][0]["workers"][0].keys() == {
        "worker", "host", "pid", "state", "generation", "serving", "loaded", "errors", "rss", "seconds_since_heard",
    }  # fmt: skip
    assert found["sidecar"].keys() == {"alive", "host", "pid", "since", "problems"}
    assert run_json(fake, "history", capsys)[1]["events"][0]["workers"] == 2
    assert run_json(fake, "sync", capsys)[1]["outcomes"]["yolo"].keys() == {"model", "status", "version", "reason"}


def test_people_see_the_status(fake: Fake, capsys: Capture) -> None:
    said = run(fake, "status", capsys)[1]
    for words in (
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
        assert words in said
    korean = run(fake, "--lang ko status", capsys)[1]
    assert all(words in korean for words in ("서비스 중", "보류", "here의 프로세스 7"))


@pytest.mark.parametrize(("sidecar", "words"), [(None, "none ever ran"), (False, "it has ended")])
def test_people_see_that_no_sidecar_runs(fake: Fake, capsys: Capture, sidecar: bool | None, words: str) -> None:
    ended = STATUS.sidecar.model_copy(update={"alive": False}) if STATUS.sidecar else None
    fake.standing = STATUS.model_copy(update={"sidecar": None if sidecar is None else ended})
    assert words in run(fake, "status", capsys)[1]


def test_people_see_when_there_is_nothing(fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.events = []
    fake.standing = STATUS.model_copy(update={"models": (KCBERT,)})
    monkeypatch.setattr(Fake, "gc", lambda _: Collected(removed=()))
    assert "Nothing happened yet" in run(fake, "history", capsys)[1]
    assert "Nothing is in quarantine" in run(fake, "quarantine list", capsys)[1]
    assert "Nothing could be deleted" in run(fake, "gc", capsys)[1]
    assert run_json(fake, "history", capsys) == (Exit.DONE, {"events": []})


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("promoted", Exit.DONE), ("unchanged", Exit.DONE), ("pinned", Exit.DONE), ("held", Exit.DONE),
        ("rejected", Exit.REJECTED), ("failed", Exit.FAILED), ("unreachable", Exit.UNREACHABLE),
    ],
)  # fmt: skip
def test_a_look_ends_with_its_outcome(fake: Fake, capsys: Capture, status: Verdict, code: Exit) -> None:
    fake.status = status
    assert run(fake, "sync", capsys)[0] == code
    assert run_json(fake, "sync", capsys)[1]["outcomes"]["yolo"]["status"] == status


def test_a_model_without_a_registry_is_told(fake: Fake, capsys: Capture) -> None:
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
def test_what_is_rejected_is_told_with_its_code(fake: Fake, capsys: Capture, error: Exception, code: Exit) -> None:
    fake.raises = error
    assert run(fake, "rollback yolo", capsys) == (code, f"{error}\n")
    assert run_json(fake, "rollback yolo", capsys) == (code, {"error": {"exit": int(code), "says": str(error)}})


def test_only_a_look_may_make_a_store(fake: Fake, capsys: Capture) -> None:
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
def test_a_wrong_command_line_ends_with_2(fake: Fake, capsys: Capture, line: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split(), fake)
    assert (caught.value.code, fake.asked) == (Exit.USAGE, [])
    assert "usage: python -m model_sync" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["usage: ", "exit codes:", "4  the sidecar"]),
        (["--lang", "ko", "--help"], ["사용법: ", "종료 코드:", "명령:"]),
        (["rollback", "--help", "--lang", "ko"], ["되돌립니다", "옵션:"]),
        (["quarantine", "add", "--help"], ["keep a version on disk", "--reason TEXT"]),
    ],
)
def test_the_help_is_in_one_language(fake: Fake, capsys: Capture, arguments: list[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments, fake)
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert all(word in said for word in words), said
    foreign = ("usage:", "options:", "show this") if "ko" in arguments else ("사용법",)
    assert not any(word in said for word in foreign)


def test_the_locale_chooses_the_language(fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "ko_KR.UTF-8")
    assert "서비스합니다" in run(fake, "rollback yolo", capsys)[1]


def test_a_wrong_setting_ends_with_2(fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SYNC_URL", "nowhere")
    code, said = run(fake, "status", capsys)
    assert (code, "BUNRIWIKI_SYNC_URL" in said) == (Exit.USAGE, True)
    monkeypatch.setenv("BUNRIWIKI_SYNC_URL", "")
    monkeypatch.setenv("BUNRIWIKI_POLL_INTERVAL_SECONDS", "-1")
    assert run(fake, "run", capsys)[0] == Exit.USAGE  # before anything of it runs


def test_an_interrupted_command_ends_with_130(fake: Fake, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Fake) -> StoreStatus:
        raise KeyboardInterrupt

    monkeypatch.setattr(Fake, "status", interrupt)
    assert main(["status"], fake) == Exit.INTERRUPTED


def test_run_is_the_sidecar(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    monkeypatch.setattr("model_sync.sidecar.run", ran.append)
    monkeypatch.setattr("bunriwiki.telemetry.logs.configure", ran.append)
    assert main(["run"], fake) == Exit.DONE
    assert ran[0] == "INFO"
    assert type(ran[1]).__name__ == "SyncSettings"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is published is noted."""
    found: list[tuple[Any, ...]] = []

    class Noting(Publisher):
        def publish(self, model: str, path: Path, version: str, *, key: object = None, progress: Any = None) -> Published:
            found.append((model, path, version, key is not None))
            progress("upload", 5, 5)
            if version == "taken":
                raise PublishError("rejected", "it exists already")
            return Published(
                model=model, version=version, uri="s3://bucket/x", digest="d", bytes=5, uploaded=("a",), present=("b", "c"),
                announced=version != "v1", signed=False,
            )  # fmt: skip

    monkeypatch.setattr("model_sync.publishing.Publisher", Noting)
    monkeypatch.setenv("BUNRIWIKI_S3_URI", "s3://bucket/x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return found


def test_a_version_is_published(fake: Fake, capsys: Capture, published: list[tuple[Any, ...]]) -> None:
    code, said = run(fake, "publish yolo best.pt --version v2", capsys)
    assert (code, published) == (Exit.DONE, [("yolo", Path("best.pt"), "v2", False)])
    assert "s3://bucket/x is published: 1 files uploaded, 2 were there" in said
    assert "was published before" in run(fake, "publish yolo best.pt --version v1", capsys)[1]
    assert run_json(fake, "publish yolo best.pt --version v2", capsys)[1].keys() == {
        "model", "version", "uri", "digest", "bytes", "uploaded", "present", "announced", "signed",
    }  # fmt: skip
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
    """The beginning of a command line."""
    private, _ = make_keys(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    return f"sign sentiment {tmp_path / 'model'} --version 7 --key {private}"


def test_a_signature_is_printed_alone(fake: Fake, capsys: Capture, to_sign: str, tmp_path: Path) -> None:
    code, said = run(fake, to_sign, capsys)
    assert (code, len(said)) == (Exit.DONE, 89)
    code, told = run_json(fake, to_sign, capsys)
    assert told.keys() == {"model", "version", "files", "signature", "uri"}
    assert (code, told["signature"], told["uri"]) == (Exit.DONE, said.strip(), None)
    assert [(path, size) for path, size, _ in told["files"]] == [("MLmodel", 11)]
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
    asked: list[tuple[str, str]] = []

    def tag(signed: Signed, tracking_uri: str, name: str) -> Signed:
        asked.append((tracking_uri, name))
        if len(asked) > 1:
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
    assert asked == [("http://mlflow", name)]
    assert run(fake, line, capsys) == (Exit.UNREACHABLE, "it is down\n")


def test_the_help_says_where_a_signature_goes(capsys: Capture) -> None:
    for lang in ("en", "ko"):
        with pytest.raises(SystemExit):
            main(["sign", "--help", "--lang", lang])
        said = capsys.readouterr().out
        assert all(word in said for word in ("bunriwiki.signature", "--mlflow", "`signature`", "latest_model.yaml"))
