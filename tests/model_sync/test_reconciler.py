from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bunriwiki.model_store.generation import Target
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.promotion import CannotLoadError, FailsLiveError
from bunriwiki.model_store.writer import StoreWriter
from model_sync.admin.commands import Commands
from model_sync.errors import SignatureError, SourceError, SyncCancelledError
from model_sync.importing.importer import Importer
from model_sync.reconciler import Reconciler
from model_sync.signatures import Signatures
from model_sync.syncing.report import Report
from tests.conftest import MODELS
from tests.model_sync.fakes import URI, FakeImporter, FakeSource, offer

MakeVersion = Callable[..., Path]


class Setup:
    """A reconciler of kcbert, with all that is around it."""

    def __init__(self, writer: StoreWriter, make_version: MakeVersion) -> None:
        self.make_version = make_version
        self.writer = writer
        self.source = FakeSource()
        self.importer = FakeImporter({})
        self.report = Report(writer.layout.sync, {"kcbert": URI})
        self.reconciler = Reconciler(
            "kcbert", self.source, writer, cast("Importer", self.importer), self.report, MODELS / "kcbert"
        )

    def offers(self, version: str, digest: str = "d1", *, stored: str | None = None) -> None:
        self.source.offers["kcbert"] = offer(version, digest)
        name = stored or version
        self.importer.made[name] = self.make_version("kcbert", name, digest)

    def look(self, **options: Any) -> tuple[str, str | None, str | None]:
        found = self.reconciler.sync(options.pop("by", "poll"), force=options.pop("force", False))
        return found.status, found.version, found.reason

    @property
    def serving(self) -> str | None:
        now = self.writer.generations().of("kcbert").serving
        return now.version if now else None

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.writer.history.read("kcbert") if event.kind == kind]


@pytest.fixture
def setup(writer: StoreWriter, make_version: MakeVersion) -> Setup:
    return Setup(writer, make_version)


def test_a_new_version_is_imported_and_serves(setup: Setup) -> None:
    setup.offers("v1")
    assert setup.look(by="sqs") == ("promoted", "v1", None)
    assert setup.serving == "v1"
    [published] = setup.events("published")
    assert (published.source, published.by, published.forced) == (f"{URI}/v1", "sqs", None)
    assert setup.importer.brought == [("v1", MODELS / "kcbert")]


def test_what_serves_already_is_left_alone(setup: Setup) -> None:
    setup.offers("v1")
    setup.look()
    assert [setup.look() for _ in range(3)] == [("unchanged", "v1", None)] * 3
    assert len(setup.importer.brought) == 1


def test_the_next_version_is_compared_with_what_serves(setup: Setup) -> None:
    setup.offers("v1")
    setup.look()
    setup.offers("v2", "d2")
    setup.look()
    assert setup.importer.brought[1] == ("v2", setup.writer.layout.version("kcbert", "v1"))


def test_a_registry_that_names_an_old_version_again_gets_it_without_an_import(setup: Setup) -> None:
    for version, digest in (("v1", "d1"), ("v2", "d2")):
        setup.offers(version, digest)
        setup.look()
    setup.offers("v1", "d1")
    assert setup.look() == ("promoted", "v1", None)
    assert len(setup.importer.brought) == 2


def test_a_rejected_version_is_quarantined_once_and_not_tried_again(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "its labels are permuted"
    assert [setup.look() for _ in range(3)] == [("rejected", "v1", "its labels are permuted")] * 3
    assert len(setup.importer.brought) == 1
    assert [event.reason for event in setup.events("quarantined")] == ["its labels are permuted"]
    assert setup.serving is None


def test_a_rejected_version_is_tried_again_when_its_digest_changes(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "no"
    setup.look()
    setup.offers("v1", "d2")
    assert setup.look() == ("promoted", "v1", None)
    assert setup.writer.quarantine.all() == []


def test_a_rejected_version_is_tried_again_when_a_person_clears_it(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "no"
    setup.look()
    setup.importer.rejects.clear()
    setup.writer.release("kcbert", "v1", "operator")
    assert setup.look() == ("promoted", "v1", None)


def signing(setup: Setup, *keys: Ed25519PrivateKey) -> None:
    """The reconciler, as it is after a start with these keys; a version is rejected for its signature, whatever that is."""
    signatures = Signatures([key.public_key() for key in keys])
    setup.reconciler = dataclasses.replace(setup.reconciler, signatures=signatures)
    setup.importer.raises = SignatureError("unsigned") if keys else None


def signed(setup: Setup, signature: str | None) -> None:
    setup.source.offers["kcbert"] = dataclasses.replace(offer("v1"), signature=signature)


def test_a_version_without_a_signature_is_tried_again_when_it_has_one(setup: Setup) -> None:
    signing(setup, Ed25519PrivateKey.generate())
    setup.offers("v1")
    for number, signature in enumerate((None, "c2ln", "another"), 1):
        signed(setup, signature)
        assert [setup.look() for _ in range(3)] == [("rejected", "v1", "unsigned")] * 3
        assert len(setup.importer.brought) == number
    signed(setup, "right")
    setup.importer.raises = None
    assert setup.look() == ("promoted", "v1", None)
    assert setup.writer.quarantine.all() == []
    assert [len(setup.events(kind)) for kind in ("quarantined", "released")] == [3, 3]


@pytest.mark.parametrize("more", [0, 1])
def test_a_version_rejected_for_its_signature_is_tried_again_with_other_keys(setup: Setup, more: int) -> None:
    key = Ed25519PrivateKey.generate()
    signing(setup, key)
    setup.offers("v1")
    setup.look()
    signing(setup, key)  # a restart
    setup.look()
    assert len(setup.importer.brought) == 1
    signing(setup, *[key, Ed25519PrivateKey.generate()][: 2 * more])
    setup.importer.raises = None
    assert setup.look() == ("promoted", "v1", None)


def test_another_signature_clears_nobody_of_anything_else(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "its labels are permuted"
    setup.look()
    signed(setup, "another")
    assert setup.look() == ("rejected", "v1", "its labels are permuted")
    assert len(setup.importer.brought) == 1


def test_force_goes_past_the_gates_and_is_recorded(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.rejects["d1"] = "it is slow"
    setup.look()
    assert setup.look(by="operator", force=True) == ("promoted", "v1", None)
    [published] = setup.events("published")
    assert (published.forced, published.reason, published.by) == (True, "it is slow", "operator")


def test_another_version_under_the_same_name_gets_a_name_of_its_own(setup: Setup) -> None:
    setup.offers("v1", "d1")
    setup.look()
    setup.offers("v1", "abcdefghijk", stored="v1-abcdefgh")
    assert setup.look() == ("promoted", "v1-abcdefgh", None)
    assert setup.look() == ("unchanged", "v1-abcdefgh", None)


def test_a_version_called_as_the_fallback_gets_a_name_of_its_own(setup: Setup) -> None:
    setup.offers("fallback-2", "abcdefghijk", stored="fallback-2-abcdefgh")
    assert setup.look() == ("promoted", "fallback-2-abcdefgh", None)


def test_a_pinned_model_stays(setup: Setup) -> None:
    setup.offers("v1")
    setup.look()
    setup.writer.pin("kcbert", pinned=True, by="operator")
    setup.offers("v2", "d2")
    assert setup.look() == ("pinned", "v2", "a person holds kcbert at v1")
    assert setup.serving == "v1"


def test_a_fallback_version_that_is_pinned_stays(setup: Setup) -> None:
    setup.writer.pin("kcbert", pinned=True, by="operator")
    setup.offers("v1")
    assert setup.look() == ("pinned", "v1", "a person holds kcbert at the fallback version")
    assert setup.serving is None


def roll_back(setup: Setup) -> None:
    """From v2 to v1, as a person does."""
    for version, digest in (("v1", "d1"), ("v2", "d2")):
        setup.offers(version, digest)
        setup.look()
    Commands(setup.writer).rollback("kcbert")


def test_ten_looks_do_not_bring_back_what_a_rollback_left(setup: Setup) -> None:
    roll_back(setup)
    reason = "v2 was left by a rollback; it comes back with unpin or a newer version"
    assert [setup.look() for _ in range(10)] == [("held", "v2", reason)] * 10
    assert setup.look(by="operator", force=True)[0] == "held"
    assert setup.serving == "v1"


def test_a_newer_version_comes_after_a_rollback_and_frees_what_was_left(setup: Setup) -> None:
    roll_back(setup)
    setup.offers("v3", "d3")
    assert setup.look() == ("promoted", "v3", None)
    now = setup.writer.generations().of("kcbert")
    assert now.previous
    assert (now.previous.version, now.held) == ("v1", ())
    setup.offers("v2", "d2")
    assert setup.look() == ("promoted", "v2", None)


def test_something_else_under_the_name_that_was_left_is_newer(setup: Setup) -> None:
    roll_back(setup)
    setup.offers("v2", "abcdefghijk", stored="v2-abcdefgh")
    assert setup.look() == ("promoted", "v2-abcdefgh", None)


def test_unpinning_brings_back_what_was_left(setup: Setup) -> None:
    roll_back(setup)
    Commands(setup.writer).unpin("kcbert")
    assert setup.look() == ("promoted", "v2", None)


def test_a_pin_during_an_import_is_heeded(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.offers("v1")
    setup.look()
    setup.offers("v2", "d2")
    bring = setup.importer.bring

    def slowly(*args: Any, **options: Any) -> Any:
        Commands(setup.writer).pin("kcbert")
        return bring(*args, **options)

    monkeypatch.setattr(setup.importer, "bring", slowly)
    assert setup.look()[0] == "pinned"
    assert setup.serving == "v1"
    assert "v2" in setup.writer.layout.versions("kcbert")


def test_a_registry_that_is_down_changes_nothing(setup: Setup) -> None:
    setup.offers("v1")
    setup.look()
    setup.source.offers["kcbert"] = SourceError("it cannot be reached")
    assert setup.look() == ("unreachable", None, "it cannot be reached")
    assert setup.serving == "v1"


def test_a_registry_that_names_nothing_changes_nothing(setup: Setup) -> None:
    assert setup.look() == ("unchanged", None, "the registry names no version")


def test_a_full_disk_is_held_against_nobody(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.raises = OSError(errno.ENOSPC, "No space left on device")
    assert setup.look()[0] == "failed"
    setup.importer.raises = None
    assert setup.look() == ("promoted", "v1", None)


def test_a_download_that_is_cut_is_held_against_nobody(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.raises = SourceError("cut off")
    assert setup.look() == ("unreachable", None, "cut off")
    assert setup.writer.quarantine.all() == []


def test_a_name_that_is_too_long_is_rejected(setup: Setup) -> None:
    setup.source.offers["kcbert"] = offer("v" * 100)
    status, version, reason = setup.look()
    assert (status, version) == ("rejected", None)
    assert reason is not None
    assert "too long" in reason


def test_the_end_of_the_sidecar_is_no_outcome(setup: Setup) -> None:
    setup.offers("v1")
    setup.importer.raises = SyncCancelledError()
    with pytest.raises(SyncCancelledError):
        setup.look()


def test_a_version_that_does_not_stand_live_traffic_is_quarantined(setup: Setup) -> None:
    def fails(target: Target) -> None:
        raise FailsLiveError(f"{target.version} fails")

    setup.reconciler = dataclasses.replace(setup.reconciler, before_activation=fails)
    setup.offers("v1")
    assert [setup.look() for _ in range(2)] == [("rejected", "v1", "v1 fails")] * 2
    assert [event.kind for event in setup.writer.history.read("kcbert")] == ["published", "abandoned", "quarantined"]
    assert setup.serving is None


def test_a_version_that_a_worker_cannot_load_is_quarantined(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object, **__: object) -> int:

        raise CannotLoadError("one cannot load kcbert:v1: damaged")

    monkeypatch.setattr("model_sync.reconciler.promote", cannot)
    setup.offers("v1")
    assert setup.look() == ("rejected", "v1", "one cannot load kcbert:v1: damaged")
    assert setup.look() == ("rejected", "v1", "one cannot load kcbert:v1: damaged")
    assert len(setup.importer.brought) == 1
