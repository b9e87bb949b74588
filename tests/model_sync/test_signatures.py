from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given
from hypothesis import strategies as st

from bunriwiki.testing.keys import make_keys
from model_sync.envelope import Validity
from model_sync.errors import SignatureError
from model_sync.signatures import Signatures, SignedFile, describe, read_public_key, sign, signed_text
from model_sync.sources import MAX_SIGNATURE_CHARACTERS, Offer

KEY = Ed25519PrivateKey.generate()
OTHER = Ed25519PrivateKey.generate()
ENFORCED = Signatures([KEY.public_key()])
SHA256 = "0123456789abcdef" * 4
FILES = (SignedFile("best.pt", 7, SHA256), SignedFile("data/names.txt", 5, SHA256[::-1]))

names = st.text(min_size=1, max_size=8)
shas = st.text("0123456789abcdef", min_size=64, max_size=64)
listed = st.lists(
    st.builds(SignedFile, names, st.integers(0, 10**12), shas), min_size=1, max_size=4, unique_by=lambda f: f.path
)


def offer(signature: str | None, model: str = "yolo", version: str = "v3") -> Offer:
    return Offer(model, version, "d1", "fake://yolo/v3", signature)


def rejects(offered: Offer, files: tuple[SignedFile, ...] = FILES, signatures: Signatures = ENFORCED) -> str:
    with pytest.raises(SignatureError) as rejected:
        signatures.verify(offered, files)
    return str(rejected.value)


@given(st.sampled_from(["yolo", "kcbert"]), names, listed, st.randoms())
def test_a_signature_is_valid_for_the_signed_files_in_any_order(
    model: str, version: str, files: list[SignedFile], mix: object
) -> None:
    signature = sign(KEY, model, version, files)
    mix.shuffle(files)  # type: ignore[attr-defined]
    ENFORCED.require(offer(signature, model, version))
    ENFORCED.verify(offer(signature, model, version), files)


@given(names, listed, st.data())
def test_any_single_change_invalidates_the_signature(version: str, files: list[SignedFile], data: st.DataObject) -> None:
    signature = sign(KEY, "yolo", version, files)
    at = data.draw(st.integers(0, len(files) - 1), label="which file")
    changed = list(files)
    model, named = "yolo", version
    match data.draw(st.sampled_from(["path", "size", "sha256", "removed", "added", "model", "version"]), label="what"):
        case "path":
            changed[at] = files[at]._replace(path=data.draw(names))
        case "size":
            changed[at] = files[at]._replace(size=data.draw(st.integers(0, 10**12)))
        case "sha256":
            changed[at] = files[at]._replace(sha256=data.draw(shas))
        case "removed":
            del changed[at]
        case "added":
            changed.append(SignedFile(data.draw(names), 0, data.draw(shas)))
        case "model":
            model = "kcbert"
        case _:
            named = data.draw(names)
    assume((model, named, sorted(changed)) != ("yolo", version, sorted(files)))
    assert "is for other content" in rejects(offer(signature, model, named), tuple(changed))


@given(st.binary(max_size=200), st.integers(0, 199), st.integers(1, 255))
def test_any_changed_byte_invalidates_the_signature(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, by: int
) -> None:
    assume(at < len(data))
    folder = tmp_path_factory.mktemp("version")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "weights").write_bytes(data)
    signature = sign(KEY, "yolo", "v3", describe(folder))
    ENFORCED.verify(offer(signature), describe(folder))
    changed = bytearray(data)
    changed[at] ^= by
    (folder / "deeper" / "weights").write_bytes(changed)
    rejects(offer(signature), describe(folder))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "best.pt").rename(folder / "last.pt"),
        lambda folder: (folder / "best.pt").unlink(),
        lambda folder: (folder / ".hidden").touch(),
        lambda folder: (folder / "signature").touch(),
        lambda folder: (folder / "caf\u00e9").rename(folder / "cafe\u0301"),
    ],
    ids=["renamed", "removed", "hidden", "signature", "unicode"],
)
def test_a_folder_that_was_changed_after_signing(tmp_path: Path, change: Callable[[Path], None]) -> None:
    for name in ("best.pt", "caf\u00e9"):
        (tmp_path / name).write_text("weights")
    signature = sign(KEY, "yolo", "v3", describe(tmp_path))
    change(tmp_path)
    rejects(offer(signature), describe(tmp_path))


def test_the_signed_text_is_as_documented() -> None:
    text = (
        b'["bunriwiki version 1","yolo","v3",'
        b'"72528e234592fb810c755dafdde81975ed34f210e34d75190a2ea5a00738f067"]'  # sha256sum of [["best.pt",7,"0123..."]]
    )
    assert signed_text("yolo", "v3", FILES[:1]) == text


@pytest.mark.parametrize("signature", [None, ""])
def test_no_signature(signature: str | None) -> None:
    message = r"^yolo v3 has no signature, .* sign it with `python -m model_sync sign`"
    with pytest.raises(SignatureError, match=message):
        ENFORCED.require(offer(signature))
    assert re.match(message, rejects(offer(signature)))


@pytest.mark.parametrize(
    "signature",
    [
        " ", "?", "서명", "MEUCIQ", base64.b64encode(bytes(63)).decode(), base64.b64encode(bytes(65)).decode(),
        "A" * (MAX_SIGNATURE_CHARACTERS + 1), "A" * 10_000_000, sign(KEY, "yolo", "v3", FILES) + "AAAA", "\0", "\ud800",
    ],
    ids=[
        "blank", "no base64", "not ASCII", "not whole", "63 bytes", "65 bytes",
        "too long", "huge", "one more", "zero", "surrogate",
    ],
)  # fmt: skip
def test_a_malformed_signature(signature: str) -> None:
    with pytest.raises(SignatureError, match=r"^the signature of yolo v3 is malformed: it should be 64 bytes in base64"):
        ENFORCED.require(offer(signature))
    assert "is malformed" in rejects(offer(signature))


def test_a_signature_of_another_version_or_model_is_not_valid() -> None:
    older = sign(KEY, "yolo", "v2", FILES)
    ENFORCED.verify(offer(older, version="v2"), FILES)
    assert "the signature of yolo v3 is for other content, or by a key" in rejects(offer(older))
    rejects(offer(sign(KEY, "kcbert", "v3", FILES)))
    rejects(offer(base64.b64encode(bytes(64)).decode()))


def test_a_trailing_line_break_is_ignored() -> None:
    ENFORCED.verify(offer(sign(KEY, "yolo", "v3", FILES) + "\n"), FILES)


def test_a_signature_by_any_of_the_keys_is_valid() -> None:
    signature = sign(OTHER, "yolo", "v3", FILES)
    rejects(offer(signature))
    both = Signatures([KEY.public_key(), OTHER.public_key()])
    both.verify(offer(signature), FILES)
    both.verify(offer(sign(KEY, "yolo", "v3", FILES)), FILES)


def test_without_a_key_every_version_is_accepted() -> None:
    Signatures().require(offer(None))
    Signatures().verify(offer("?"), FILES)
    assert (Signatures().enforced, ENFORCED.enforced) == (False, True)


def test_another_signature_or_other_keys_change_the_identity() -> None:
    both = [KEY.public_key(), OTHER.public_key()]
    known = {
        ENFORCED.identity(offer(None)), ENFORCED.identity(offer("a")), ENFORCED.identity(offer("b")),
        Signatures(both).identity(offer("a")), Signatures().identity(offer("a")),
    }  # fmt: skip
    assert len(known) == 5
    assert Signatures(both).identity(offer("a")) == Signatures(both[::-1]).identity(replace(offer("a"), uri="elsewhere"))


def test_an_invalid_key(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    assert Signatures.read([public]).enforced
    with pytest.raises(ValueError, match=r"key\.pem is not a PEM file with a public key"):
        read_public_key(private)
    other = generate_private_key(SECP256R1()).public_key()
    public.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ValueError, match="is not an Ed25519 key"):
        read_public_key(public)
    with pytest.raises(FileNotFoundError):
        Signatures.read([tmp_path / "none"])


VALIDITY = Validity(counter=7, expires=1000)


def at(seconds: float) -> Signatures:
    """The required key, when it is that late."""
    return Signatures([KEY.public_key()], lambda: seconds)


def test_the_signed_text_with_a_counter_and_an_expiry() -> None:
    digest = b"72528e234592fb810c755dafdde81975ed34f210e34d75190a2ea5a00738f067"
    assert signed_text("yolo", "v3", FILES[:1], VALIDITY) == b'["bunriwiki version 2","yolo","v3","%s",7,1000]' % digest


def test_an_expired_signature_is_not_accepted_for_an_import() -> None:
    signed = offer(sign(KEY, "yolo", "v3", FILES, VALIDITY))
    at(999).require(signed)
    at(999).verify(signed, FILES)
    with pytest.raises(SignatureError, match="has expired: sign the version again"):
        at(1000).require(signed)
    assert at(0).counter(signed) == 7
    assert at(0).counter(offer(sign(KEY, "yolo", "v3", FILES))) == 0


@pytest.mark.parametrize("prefix", ["8.1000.", "7.9999.", "", "7.", "7.1000.1.", "-7.1000.", "\u0667.1000.", "9" * 16 + ".1."])
def test_a_counter_or_an_expiry_cannot_be_changed(prefix: str) -> None:
    encoded = sign(KEY, "yolo", "v3", FILES, VALIDITY).rpartition(".")[2]
    rejects(offer(prefix + encoded), signatures=at(0))
