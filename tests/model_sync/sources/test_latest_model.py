from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
import yaml

from model_sync.errors import SourceError
from model_sync.sources.latest_model import MAX_BYTES, FullEntry, LatestModel, ShortEntry, with_entry

SHA = hashlib.sha256(b"weights").hexdigest()
FULL: dict[str, Any] = {
    "version": "v3",
    "path": "yolo/v3",
    "files": [{"path": "best.pt", "size": 7, "sha256": SHA}, {"path": "data/names.txt", "size": 0, "sha256": SHA}],
}


def parse(body: object) -> LatestModel:
    return LatestModel.parse(yaml.safe_dump(body).encode())


def full(**changes: Any) -> FullEntry:
    entry = parse({"yolo": {**FULL, **changes}}).of("yolo")
    assert isinstance(entry, FullEntry)
    return entry


def test_the_full_form() -> None:
    entry = full(metrics={"map50": 0.9}, signature="c2ln")
    assert (entry.version, entry.path, entry.signature) == ("v3", "yolo/v3", "c2ln")
    assert [(file.path, file.size, file.sha256) for file in entry.files] == [("best.pt", 7, SHA), ("data/names.txt", 0, SHA)]


@pytest.mark.parametrize(
    ("path", "is_file", "version"),
    [
        ("yolo/v3/best.pt", True, "v3"),
        ("yolo/v3/", False, "v3"),
        ("v3/yolo/best.pt", True, "v3"),
        ("yolo/best.pt", True, "r-0123456789ab"),
        ("best.pt", True, "r-0123456789ab"),
        ("yolo/", False, "r-0123456789ab"),
    ],
)
def test_the_short_form_takes_the_version_from_its_path(path: str, is_file: bool, version: str) -> None:
    entry = parse({"yolo": path}).of("yolo")
    assert isinstance(entry, ShortEntry)
    assert entry.version("yolo", "0123456789abcdef", is_file=is_file) == version


def test_a_missing_model_has_no_entry_and_an_unknown_model_is_ignored() -> None:
    latest = parse({"yolo": "yolo/v3/", "resnet": {"no": "matter"}})
    assert latest.of("kcbert") is None
    assert latest.errors == {}


def test_an_alias_bomb_in_the_metrics_is_rejected_at_once() -> None:
    levels = [f"    l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]" for level in range(1, 12)]
    bomb = "\n".join(["yolo:", "  version: v3", "  metrics:", "    l0: &l0 [x, x]", *levels])
    assert len(bomb) < 1000
    began = time.process_time()
    with pytest.raises(SourceError, match="alias"):
        LatestModel.parse(bomb.encode())
    with pytest.raises(SourceError, match="alias"):
        with_entry(bomb.encode(), "yolo", full())
    assert time.process_time() - began < 1


def test_metrics_do_not_tell_entries_apart() -> None:
    assert full(metrics={"map50": 0.9}).identity == full().identity
    assert full(signature="c2ln").identity != full().identity
    assert full(version="v4").identity != full().identity


def test_the_digest_covers_the_path_and_the_files_in_any_order() -> None:
    digest = full().digest
    reference = f'["yolo/v3",[["best.pt",7,"{SHA}"],["data/names.txt",0,"{SHA}"]]]'
    assert digest == hashlib.sha256(reference.encode()).hexdigest()
    assert full(files=FULL["files"][::-1], metrics={"map50": 0.9}, path="yolo/v3/").digest == digest
    assert full(path="yolo/v4").digest != digest
    assert full(files=FULL["files"][:1]).digest != digest
    assert full(files=[{**FULL["files"][0], "size": 8}, FULL["files"][1]]).digest != digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"versoin": "v4"}, "versoin: Extra inputs are not permitted"),
        ({"version": 3}, r"version: Input should be a valid string \(put it in quotes\)"),
        ({"version": ""}, "version"),
        ({"path": "../kcbert"}, "path: .*relative path"),
        ({"path": "/yolo"}, "path: .*relative path"),
        ({"path": "/"}, "path: .*relative path"),
        ({"files": []}, "files: .*at least 1"),
        ({"files": [{"path": "a/../../b", "size": 1, "sha256": SHA}]}, r"files\.0\.path: .*relative path"),
        ({"files": [{"path": "/etc/passwd", "size": 1, "sha256": SHA}]}, r"files\.0\.path: .*relative path"),
        ({"files": [{"path": "a", "size": "1", "sha256": SHA}]}, r"files\.0\.size"),
        ({"files": [{"path": "a", "size": -1, "sha256": SHA}]}, r"files\.0\.size"),
        ({"files": [{"path": "a", "size": 1, "sha256": "abc"}]}, r"files\.0\.sha256"),
        ({"files": [{"path": "a", "size": 1, "sha256": SHA} for _ in range(2)]}, "two files share a path"),
    ],
)
def test_an_invalid_entry_does_not_affect_other_entries(changes: dict[str, Any], message: str) -> None:
    latest = parse({"yolo": {**FULL, **changes}, "kcbert": "kcbert/v1/"})
    with pytest.raises(SourceError, match=f"the entry of yolo in latest_model.yaml is invalid: .*{message}"):
        latest.of("yolo")
    assert latest.of("kcbert") == ShortEntry(path="kcbert/v1")


@pytest.mark.parametrize("entry", [None, 3, ["yolo/v3"], "", "/yolo", "yolo/../v3", "yolo//v3"])
def test_an_entry_in_neither_form_is_invalid(entry: object) -> None:
    with pytest.raises(SourceError, match="the entry of yolo"):
        parse({"yolo": entry}).of("yolo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "names of the models"),
        (b"- yolo", "names of the models"),
        (b"yolo: [", "not valid YAML"),
        (b"yolo: 2026-13-41", "not valid YAML"),
        (b"\xff\xfe\xff", "not valid YAML"),
        (b"[" * 100_000, "nested more than 32 deep"),
        (b"yolo: !!python/name:os.system", "not valid YAML"),
        (b" " * (MAX_BYTES + 1), "more than 1000000 bytes"),
    ],
)
def test_an_invalid_file(text: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        LatestModel.parse(text)


def test_an_error_message_does_not_repeat_the_entry() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join(['*' + last] * 8)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(SourceError) as caught:
        LatestModel.parse(f"{bomb}yolo: {{version: *i, path: yolo, files: []}}".encode()).of("yolo")
    assert len(str(caught.value)) < 300


def test_an_entry_is_set_and_everything_else_is_kept_as_written() -> None:
    text = (
        "# ours\nyolo: yolo/v2/\nresnet: {version: 1.10, on: yes, when: 2026-01-02, size: 0x10}\n"
        "kcbert:\n  version: v1\n  path: kcbert/v1\n  files: [{path: a, size: 1, sha256: " + SHA + "}]\n"
        "  metrics: {f1: 0.90}\n"
    )
    entry = full()
    new = with_entry(text.encode(), "yolo", entry)
    assert list(yaml.safe_load(new)) == ["yolo", "resnet", "kcbert"]
    assert LatestModel.parse(new).of("yolo") == entry
    assert LatestModel.parse(new).of("kcbert") == LatestModel.parse(text.encode()).of("kcbert")
    kept = yaml.load(new, Loader=yaml.BaseLoader)  # noqa: S506 (it makes strings only, as written)
    assert kept["resnet"] == {"version": "1.10", "on": "yes", "when": "2026-01-02", "size": "0x10"}
    assert kept["kcbert"]["metrics"] == {"f1": "0.90"}


@pytest.mark.parametrize("text", [b"", b"# nothing yet\n", b"{}", b"kcbert: kcbert/v1/\n", b"yolo: a\nyolo: b\n"])
def test_an_entry_is_set_in_any_valid_file(text: bytes) -> None:
    entry = full(version="1.10", signature="c2ln", metrics={"정확도": 0.9})
    new = with_entry(text, "yolo", entry)
    assert LatestModel.parse(new).of("yolo") == entry
    assert with_entry(new, "yolo", entry) == new


def test_an_alias_in_any_entry_is_rejected() -> None:
    with pytest.raises(SourceError, match="alias"):
        with_entry(b"yolo: &a {path: x}\nresnet: *a\n", "yolo", full())


@pytest.mark.parametrize("text", [b"yolo: [", b"- yolo", b"yolo", b"a: 1\n---\nb: 2\n", b"\xff"])
def test_no_entry_is_set_in_an_invalid_file(text: bytes) -> None:
    with pytest.raises(SourceError, match=r"latest_model\.yaml"):
        with_entry(text, "yolo", full())
