"""Against SeaweedFS, a real S3 server, which knows conditional writes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from benchmarks.load import free_port
from model_sync import publishing
from model_sync.errors import PublishError
from model_sync.publishing import Publisher, read_key
from model_sync.signatures import Signatures, SignedFile
from model_sync.sources.s3 import S3Source
from tests.registries import CREDENTIALS, REGION, SeaweedFS

MakeVersion = Callable[..., Path]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


class Registry:
    """A prefix of its own on the server."""

    def __init__(self, server: SeaweedFS) -> None:
        self.server = server
        self.prefix = uuid.uuid4().hex
        self.uri = f"s3://{server.BUCKET}/{self.prefix}"
        self.client: Any = server.client()

    def publisher(self, client: Any = None) -> Publisher:
        return Publisher(self.uri, client or self.server.client())

    def put(self, path: str, data: bytes, **more: Any) -> None:
        self.client.put_object(Bucket=self.server.BUCKET, Key=f"{self.prefix}/{path}", Body=data, **more)

    def lies(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.server.BUCKET, Prefix=f"{self.prefix}/").get("Contents", [])
        return sorted(one["Key"].removeprefix(f"{self.prefix}/") for one in found)

    def latest(self) -> dict[str, Any]:
        answer = self.client.get_object(Bucket=self.server.BUCKET, Key=f"{self.prefix}/latest_model.yaml")
        return dict(yaml.safe_load(answer["Body"].read()))

    def newest(self, model: str = "kcbert", key: Path | None = None) -> tuple[str, list[str]]:
        """What the sidecar would find: the version, and its files. With `key`, their signature has to hold."""
        source = S3Source(self.uri, client=self.client)
        offer = source.newest(model)
        assert offer
        files = source.files(offer)
        covered = [SignedFile(file.path, file.size, file.sha256 or "") for file in files]
        Signatures.read([key] if key else []).verify(offer, covered)
        return offer.version, [file.path for file in files]


@pytest.fixture
def registry(server: SeaweedFS) -> Registry:
    return Registry(server)


def reject(kind: str, words: str, publish: Callable[[], object]) -> None:
    with pytest.raises(PublishError, match=words) as caught:
        publish()
    assert caught.value.kind == kind


def before_put(client: Any, key: str, do: Callable[[], object]) -> Any:
    """`client`, which does something before it first writes an object whose key ends so."""
    done = threading.Event()

    def handler(params: dict[str, Any], **_: Any) -> None:
        if params["url_path"].endswith(key) and not done.is_set():
            done.set()
            do()

    client.meta.events.register("before-call.s3.PutObject", handler)
    return client


def test_a_folder_is_published_and_found(registry: Registry, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("hidden")
    (folder / "signature").write_text("of a folder that is followed")
    seen: list[tuple[str, int, int]] = []
    done = registry.publisher().publish("kcbert", folder, "V1.2+cu", progress=lambda *told: seen.append(told))
    assert (done.uploaded, done.present, done.announced) == (("README.md", "deeper/weights.bin", "manifest.yaml"), (), True)
    assert done.uri == f"{registry.uri}/kcbert/V1.2+cu"
    assert registry.newest() == ("V1.2+cu", list(done.uploaded))
    assert seen[-1] == ("upload", done.bytes, done.bytes)
    assert ("read", done.bytes, done.bytes) in seen


def test_a_file_is_published(registry: Registry, tmp_path: Path, make_version: MakeVersion) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"\x80\x02" + b"weights" * 3_000_000)  # in parts
    registry.publisher().publish("yolo", file, "1.10")
    assert registry.newest("yolo") == ("1.10", ["best.pt"])


def test_the_same_version_again_changes_nothing(registry: Registry, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    registry.publisher().publish("kcbert", folder, "v1")
    done = registry.publisher().publish("kcbert", folder, "v1")
    assert (done.uploaded, len(done.present), done.announced) == ((), 3, False)


def test_an_older_version_can_be_named_again(registry: Registry, make_version: MakeVersion) -> None:
    one, two = make_version("kcbert", "v1"), make_version("kcbert", "v2")
    for folder, version in ((one, "v1"), (two, "v2"), (one, "v1")):
        assert registry.publisher().publish("kcbert", folder, version).announced
    assert registry.newest()[0] == "v1"


@pytest.mark.parametrize(
    ("model", "version", "words"),
    [
        ("kcbert", "", "needs a name"), ("kcbert", "v" * 64, "too long"), ("kcbert", "a/b", "no slashes"),
        ("kcbert", "..", "no slashes"), ("kcbert", "v1\n", "no slashes"), ("yolo", "v1", "a version of kcbert, not of yolo"),
    ],
)  # fmt: skip
def test_what_is_no_version_is_not_published(
    registry: Registry, make_version: MakeVersion, model: str, version: str, words: str
) -> None:
    reject("rejected", words, lambda: registry.publisher().publish(model, make_version(), version))
    assert registry.lies() == []


def test_what_cannot_be_read_is_not_published(registry: Registry, make_version: MakeVersion, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"no weights")
    reject("rejected", "best.pt is no checkpoint", lambda: registry.publisher().publish("yolo", tmp_path / "best.pt", "v1"))
    reject("failed", "does not exist", lambda: registry.publisher().publish("yolo", tmp_path / "none", "v1"))
    (tmp_path / "empty").mkdir()
    reject("rejected", "no file", lambda: registry.publisher().publish("yolo", tmp_path / "empty", "v1"))
    reject(
        "rejected",
        "nothing in it is a version of yolo",
        lambda: registry.publisher().publish("yolo", make_version().parent, "v"),
    )
    assert registry.lies() == []


@pytest.mark.parametrize("place", ["kcbert/v1/deeper/weights.bin", "kcbert/v1/more.txt"])
@pytest.mark.parametrize("digest", [{}, {"Metadata": {"sha256": "0" * 64}}])
def test_a_name_that_has_other_files_is_rejected(
    registry: Registry, make_version: MakeVersion, place: str, digest: dict[str, Any]
) -> None:
    registry.put(place, b"WEIGHTS", **digest)  # of the same size
    before = registry.lies()
    reject("rejected", "exists already, with another", lambda: registry.publisher().publish("kcbert", make_version(), "v1"))
    assert registry.lies() == before


def test_files_of_another_tool_are_known_by_what_latest_model_says(registry: Registry, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    registry.publisher().publish("kcbert", folder, "v1")
    for path in ("README.md", "deeper/weights.bin", "manifest.yaml"):
        registry.put(f"kcbert/v1/{path}", (folder / path).read_bytes())  # without our metadata
    assert not registry.publisher().publish("kcbert", folder, "v1").announced


def test_others_entries_stay(registry: Registry, make_version: MakeVersion) -> None:
    others = {"yolo": "yolo/v3/", "resnet": {"size": 12, "of": [1.5, None]}}
    registry.put("latest_model.yaml", yaml.safe_dump(others).encode())
    registry.publisher().publish("kcbert", make_version(), "v1")
    latest = registry.latest()
    assert latest.pop("kcbert")["version"] == "v1"
    assert latest == others


def test_a_latest_model_that_is_broken_is_left_alone(registry: Registry, make_version: MakeVersion) -> None:
    registry.put("latest_model.yaml", b"yolo: [")
    reject("rejected", "mend it first", lambda: registry.publisher().publish("kcbert", make_version(), "v1"))
    assert registry.lies() == ["latest_model.yaml"]


@pytest.mark.parametrize("first", [b"", b"yolo: yolo/v1/\n"])
def test_a_publisher_who_was_faster_loses_nothing(registry: Registry, make_version: MakeVersion, first: bytes) -> None:
    if first:
        registry.put("latest_model.yaml", first)
    mine, theirs = make_version("kcbert", "v1"), make_version("sentiment", "v7")
    client = before_put(
        registry.server.client(), "latest_model.yaml", lambda: registry.publisher().publish("sentiment", theirs, "v7")
    )
    assert registry.publisher(client).publish("kcbert", mine, "v1").announced
    latest = registry.latest()
    assert (latest["kcbert"]["version"], latest["sentiment"]["version"]) == ("v1", "v7")
    assert ("yolo" in latest) == bool(first)


def test_two_publishers_of_different_versions_lose_nothing(registry: Registry, make_version: MakeVersion) -> None:
    one, two = make_version("kcbert", "v1", "one"), make_version("kcbert", "v2", "two")
    client = before_put(
        registry.server.client(), "latest_model.yaml", lambda: registry.publisher().publish("kcbert", two, "v2")
    )
    registry.publisher(client).publish("kcbert", one, "v1")
    assert registry.newest()[0] == "v1"  # it was written last
    for version in ("v1", "v2"):
        assert {f"kcbert/{version}/deeper/weights.bin", f"kcbert/{version}/manifest.yaml"} <= set(registry.lies())
    assert registry.publisher().publish("kcbert", two, "v2").uploaded == ()  # all of it is there


def test_many_publishers_at_once_lose_nothing(registry: Registry, make_version: MakeVersion) -> None:
    models = ("yolo", "kcbert", "sentiment")
    versions = [(model, f"v{number}", make_version(model, f"v{number}")) for model in models for number in range(3)]
    together = threading.Barrier(len(versions))

    def publish(model: str, version: str, folder: Path) -> bool:
        publisher = registry.publisher()
        together.wait()
        return publisher.publish(model, folder, version).announced

    with ThreadPoolExecutor(len(versions)) as pool:
        assert all(pool.map(lambda one: publish(*one), versions))
    assert set(registry.latest()) == set(models)
    for model in models:
        version, files = registry.newest(model)
        assert {f"{model}/{version}/{file}" for file in files} <= set(registry.lies())
    assert len(registry.lies()) == 3 * len(versions) + 1


def test_others_that_never_stop_are_told_of(
    registry: Registry, make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "TRIES", 2)
    publisher = registry.publisher()
    monkeypatch.setattr(publisher, "_replace_latest", lambda *_: False)
    reject("failed", "all the time", lambda: publisher.publish("kcbert", make_version(), "v1"))


def test_a_publication_that_was_cut_off_goes_on(server: SeaweedFS, registry: Registry, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    client = before_put(_impatient(server.url), "manifest.yaml", server.kill)  # after the others
    try:
        reject("unreachable", "cannot be reached", lambda: registry.publisher(client).publish("kcbert", folder, "v1"))
    finally:
        server.start()
    assert registry.lies() == ["kcbert/v1/README.md", "kcbert/v1/deeper/weights.bin"]
    done = registry.publisher().publish("kcbert", folder, "v1")
    assert (done.present, done.uploaded) == (("README.md", "deeper/weights.bin"), ("manifest.yaml",))
    assert registry.newest()[0] == "v1"


def test_somebody_who_publishes_other_files_under_the_name_meanwhile_is_noticed(
    registry: Registry, make_version: MakeVersion
) -> None:
    client = before_put(
        registry.server.client(), "manifest.yaml", lambda: registry.put("kcbert/v1/deeper/weights.bin", b"theirs")
    )
    reject("rejected", "with another deeper", lambda: registry.publisher(client).publish("kcbert", make_version(), "v1"))
    assert "latest_model.yaml" not in registry.lies()


def test_a_signed_version_is_taken_by_who_has_the_public_key(
    registry: Registry, make_version: MakeVersion, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "public.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    folder = make_version("kcbert", "v1")
    registry.publisher().publish("kcbert", folder, "v1")
    done = registry.publisher().publish("kcbert", folder, "v1", key=read_key(tmp_path / "key.pem"))
    assert (done.signed, done.announced, done.uploaded) == (True, True, ())
    assert registry.newest(key=tmp_path / "public.pem")[0] == "v1"
    unsigned = registry.publisher().publish("kcbert", folder, "v1")
    assert (unsigned.announced, "signature" in registry.latest()["kcbert"]) == (False, True)  # it is not taken away


def test_a_key_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no key")
    reject("settings", "no PEM file with a private key", lambda: read_key(tmp_path / "text.pem"))
    reject("settings", "no PEM file", lambda: read_key(tmp_path / "none.pem"))
    other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "other.pem").write_bytes(other)
    reject("settings", "another kind than Ed25519", lambda: read_key(tmp_path / "other.pem"))


def test_an_address_that_is_none_is_told() -> None:
    for uri in ("", "http://bucket", "s3:///prefix"):
        reject("settings", "s3://bucket/prefix", lambda uri=uri: Publisher(uri))  # type: ignore[misc]


def test_a_server_that_does_not_answer_is_told(make_version: MakeVersion) -> None:
    publisher = Publisher("s3://models/x", _impatient(f"http://127.0.0.1:{free_port()}"))
    reject("unreachable", "AWS_ENDPOINT_URL_S3", lambda: publisher.publish("kcbert", make_version(), "v1"))


def test_a_bucket_that_is_not_there_is_told(server: SeaweedFS, make_version: MakeVersion) -> None:
    publisher = Publisher("s3://nowhere/x", server.client())
    reject("settings", "bucket does not exist", lambda: publisher.publish("kcbert", make_version(), "v1"))


@pytest.mark.parametrize(
    ("code", "status", "kind", "words"),
    [
        ("AccessDenied", 403, "settings", "s3:PutObject"),
        ("SignatureDoesNotMatch", 403, "settings", "AWS_SECRET_ACCESS_KEY"),
        ("SlowDown", 503, "unreachable", "busy or broken"),
        ("Teapot", 418, "failed", "Teapot, short and stout"),
    ],
)
def test_what_s3_says_is_told(make_version: MakeVersion, code: str, status: int, kind: str, words: str) -> None:
    client = _impatient("http://127.0.0.1:1")
    with Stubber(client) as stubber:
        stubber.add_client_error("get_object", code, "short and stout", http_status_code=status)
        reject(kind, words, lambda: Publisher("s3://models/x", client).publish("kcbert", make_version(), "v1"))


def test_without_credentials_it_says_which_are_missing(make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    reject("settings", "AWS_ACCESS_KEY_ID", lambda: Publisher("s3://models/x").publish("kcbert", make_version(), "v1"))


def test_the_server_honours_conditional_writes(registry: Registry) -> None:
    """What publishing stands on: were it not so, the tests above would tell nothing."""
    registry.put("one", b"1", IfNoneMatch="*")
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0123"'}):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            registry.put("one", b"2", **condition)


def _impatient(url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}, signature_version="s3v4", connect_timeout=2),
    )
