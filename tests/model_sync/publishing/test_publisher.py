"""Against SeaweedFS, a real S3 server that supports conditional writes."""

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
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bunriwiki.testing.aws import CREDENTIALS, REGION
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.seaweedfs import SeaweedFS
from model_sync.errors import PublishError
from model_sync.publishing import latest_model_file
from model_sync.publishing.bucket import Bucket
from model_sync.publishing.publisher import Publisher
from model_sync.signatures import Signatures, SignedFile
from model_sync.signing import read_key
from model_sync.sources.s3 import S3Source

pytestmark = pytest.mark.slow

MakeVersion = Callable[..., Path]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


class Registry:
    """A separate prefix on the server."""

    def __init__(self, server: SeaweedFS) -> None:
        self.server = server
        self.prefix = uuid.uuid4().hex
        self.uri = f"s3://{server.BUCKET}/{self.prefix}"
        self.client: Any = server.client()

    def publisher(self, client: Any = None) -> Publisher:
        return Publisher(self.uri, client or self.server.client())

    def put(self, path: str, data: bytes, **more: Any) -> None:
        self.client.put_object(Bucket=self.server.BUCKET, Key=f"{self.prefix}/{path}", Body=data, **more)

    def paths(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.server.BUCKET, Prefix=f"{self.prefix}/").get("Contents", [])
        return sorted(item["Key"].removeprefix(f"{self.prefix}/") for item in found)

    def latest(self) -> dict[str, Any]:
        answer = self.client.get_object(Bucket=self.server.BUCKET, Key=f"{self.prefix}/latest_model.yaml")
        return dict(yaml.safe_load(answer["Body"].read()))

    def newest(self, model: str = "kcbert", key: Path | None = None) -> tuple[str, list[str]]:
        """The version and the files that the sidecar would find. With `key`, their signature has to be valid."""
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


def reject(kind: str, message: str, publish: Callable[[], object]) -> None:
    with pytest.raises(PublishError, match=message) as caught:
        publish()
    assert caught.value.kind == kind


def before_put(client: Any, key: str, do: Callable[[], object]) -> Any:
    """`client`, which calls `do` before it first writes an object whose key ends with `key`."""
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
    (folder / "signature").write_text("for a local source")
    seen: list[tuple[str, int, int]] = []
    done = registry.publisher().publish("kcbert", folder, "V1.2+cu", progress=lambda *report: seen.append(report))
    assert (done.uploaded, done.present, done.announced) == (("README.md", "deeper/weights.bin", "manifest.yaml"), (), True)
    assert done.uri == f"{registry.uri}/kcbert/V1.2+cu"
    assert registry.newest() == ("V1.2+cu", list(done.uploaded))
    assert seen[-1] == ("upload", done.size_bytes, done.size_bytes)
    assert ("read", done.size_bytes, done.size_bytes) in seen


def test_a_file_is_published(registry: Registry, tmp_path: Path, make_version: MakeVersion) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"\x80\x02" + b"weights" * 3_000_000)  # in parts
    registry.publisher().publish("yolo", file, "1.10")
    assert registry.newest("yolo") == ("1.10", ["best.pt"])


def test_the_training_history_is_published_beside_the_version(registry: Registry, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    (folder / "history").mkdir()
    events = folder / "history" / "events.out.tfevents.1"
    events.write_bytes(b"one")
    (folder / "history" / "notes.txt").write_text("a file of the version")
    done = registry.publisher().publish("kcbert", folder, "v1")
    assert done.history == ("events.out.tfevents.1",)
    assert "history/kcbert/v1/events.out.tfevents.1" in registry.paths()
    files = ["README.md", "deeper/weights.bin", "history/notes.txt", "manifest.yaml"]
    assert registry.newest() == ("v1", files)
    events.write_bytes(b"a longer one")  # the history may change, the version may not
    again = registry.publisher().publish("kcbert", folder, "v1")
    assert (again.digest, again.uploaded, again.announced) == (done.digest, (), False)
    key = f"{registry.prefix}/history/kcbert/v1/events.out.tfevents.1"
    assert registry.client.get_object(Bucket=registry.server.BUCKET, Key=key)["Body"].read() == b"a longer one"


def test_a_short_entry_does_not_list_the_history(registry: Registry, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    (folder.parent / "history").mkdir()
    (folder.parent / "history" / "events.out.tfevents.1").write_bytes(b"one")
    registry.publisher().publish("kcbert", folder, "v1")
    registry.put("latest_model.yaml", b"kcbert: kcbert/v1\n")
    assert registry.newest() == ("v1", ["README.md", "deeper/weights.bin", "manifest.yaml"])


def test_the_same_version_again_changes_nothing(registry: Registry, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    registry.publisher().publish("kcbert", folder, "v1")
    done = registry.publisher().publish("kcbert", folder, "v1")
    assert (done.uploaded, len(done.present), done.announced) == ((), 3, False)


def test_an_older_version_can_be_announced_again(registry: Registry, make_version: MakeVersion) -> None:
    first, second = make_version("kcbert", "v1"), make_version("kcbert", "v2")
    for folder, version in ((first, "v1"), (second, "v2"), (first, "v1")):
        assert registry.publisher().publish("kcbert", folder, version).announced
    assert registry.newest()[0] == "v1"


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("kcbert", "", "needs a name"), ("kcbert", "v" * 64, "too long"), ("kcbert", "a/b", "no slashes"),
        ("kcbert", "..", "no slashes"), ("kcbert", "v1\n", "no slashes"), ("yolo", "v1", "a version of kcbert, not of yolo"),
    ],
)  # fmt: skip
def test_an_invalid_version_is_not_published(
    registry: Registry, make_version: MakeVersion, model: str, version: str, message: str
) -> None:
    reject("rejected", message, lambda: registry.publisher().publish(model, make_version(), version))
    assert registry.paths() == []


def test_an_unreadable_artifact_is_not_published(registry: Registry, make_version: MakeVersion, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"no weights")
    reject("rejected", "best.pt is not a checkpoint", lambda: registry.publisher().publish("yolo", tmp_path / "best.pt", "v1"))
    reject("failed", "does not exist", lambda: registry.publisher().publish("yolo", tmp_path / "none", "v1"))
    (tmp_path / "empty").mkdir()
    reject("rejected", "no file", lambda: registry.publisher().publish("yolo", tmp_path / "empty", "v1"))
    reject(
        "rejected",
        "holds no version of yolo",
        lambda: registry.publisher().publish("yolo", make_version().parent, "v"),
    )
    assert registry.paths() == []


@pytest.mark.parametrize("place", ["kcbert/v1/deeper/weights.bin", "kcbert/v1/more.txt"])
@pytest.mark.parametrize("digest", [{}, {"Metadata": {"sha256": "0" * 64}}])
def test_a_version_name_with_different_files_is_rejected(
    registry: Registry, make_version: MakeVersion, place: str, digest: dict[str, Any]
) -> None:
    registry.put(place, b"WEIGHTS", **digest)  # of the same size
    before = registry.paths()
    reject("rejected", "exists already, with a different", lambda: registry.publisher().publish("kcbert", make_version(), "v1"))
    assert registry.paths() == before


def test_files_that_another_tool_uploaded_are_compared_with_latest_model(registry: Registry, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    registry.publisher().publish("kcbert", folder, "v1")
    for path in ("README.md", "deeper/weights.bin", "manifest.yaml"):
        registry.put(f"kcbert/v1/{path}", (folder / path).read_bytes())  # without the metadata that the publisher sets
    assert not registry.publisher().publish("kcbert", folder, "v1").announced


def test_the_entries_of_other_models_are_kept(registry: Registry, make_version: MakeVersion) -> None:
    others = {"yolo": "yolo/v3/", "resnet": {"size": 12, "of": [1.5, None]}}
    registry.put("latest_model.yaml", yaml.safe_dump(others).encode())
    registry.publisher().publish("kcbert", make_version(), "v1")
    latest = registry.latest()
    assert latest.pop("kcbert")["version"] == "v1"
    assert latest == others


def test_an_invalid_latest_model_is_not_changed(registry: Registry, make_version: MakeVersion) -> None:
    registry.put("latest_model.yaml", b"yolo: [")
    reject("rejected", "repair it first", lambda: registry.publisher().publish("kcbert", make_version(), "v1"))
    assert registry.paths() == ["latest_model.yaml"]


@pytest.mark.parametrize("existing", [b"", b"yolo: yolo/v1/\n"])
def test_the_entry_of_a_concurrent_publisher_is_kept(registry: Registry, make_version: MakeVersion, existing: bytes) -> None:
    if existing:
        registry.put("latest_model.yaml", existing)
    first, second = make_version("kcbert", "v1"), make_version("sentiment", "v7")
    client = before_put(
        registry.server.client(), "latest_model.yaml", lambda: registry.publisher().publish("sentiment", second, "v7")
    )
    assert registry.publisher(client).publish("kcbert", first, "v1").announced
    latest = registry.latest()
    assert (latest["kcbert"]["version"], latest["sentiment"]["version"]) == ("v1", "v7")
    assert ("yolo" in latest) == bool(existing)


def test_two_publishers_of_different_versions_lose_nothing(registry: Registry, make_version: MakeVersion) -> None:
    first, second = make_version("kcbert", "v1", "one"), make_version("kcbert", "v2", "two")
    client = before_put(
        registry.server.client(), "latest_model.yaml", lambda: registry.publisher().publish("kcbert", second, "v2")
    )
    registry.publisher(client).publish("kcbert", first, "v1")
    assert registry.newest()[0] == "v1"  # it was announced last
    for version in ("v1", "v2"):
        assert {f"kcbert/{version}/deeper/weights.bin", f"kcbert/{version}/manifest.yaml"} <= set(registry.paths())
    assert registry.publisher().publish("kcbert", second, "v2").uploaded == ()  # all files are in the bucket


def test_many_publishers_at_once_lose_nothing(registry: Registry, make_version: MakeVersion) -> None:
    models = ("yolo", "kcbert", "sentiment")
    versions = [(model, f"v{number}", make_version(model, f"v{number}")) for model in models for number in range(3)]
    together = threading.Barrier(len(versions))

    def publish(model: str, version: str, folder: Path) -> bool:
        publisher = registry.publisher()
        together.wait()
        return publisher.publish(model, folder, version).announced

    with ThreadPoolExecutor(len(versions)) as pool:
        assert all(pool.map(lambda version: publish(*version), versions))
    assert set(registry.latest()) == set(models)
    for model in models:
        version, files = registry.newest(model)
        assert {f"{model}/{version}/{file}" for file in files} <= set(registry.paths())
    assert len(registry.paths()) == 3 * len(versions) + 1


def test_publishing_fails_after_too_many_concurrent_changes(
    registry: Registry, make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest_model_file, "MAX_TRIES", 2)
    monkeypatch.setattr(Bucket, "replace", lambda *_: False)
    reject("failed", "Other publishers keep changing", lambda: registry.publisher().publish("kcbert", make_version(), "v1"))


def test_an_interrupted_publication_is_resumed(server: SeaweedFS, registry: Registry, make_version: MakeVersion) -> None:
    folder = make_version("kcbert", "v1")
    client = before_put(_client_without_retries(server.url), "manifest.yaml", server.kill)  # the last file
    try:
        reject("unreachable", "cannot be reached", lambda: registry.publisher(client).publish("kcbert", folder, "v1"))
    finally:
        server.start()
    assert registry.paths() == ["kcbert/v1/README.md", "kcbert/v1/deeper/weights.bin"]
    done = registry.publisher().publish("kcbert", folder, "v1")
    assert (done.present, done.uploaded) == (("README.md", "deeper/weights.bin"), ("manifest.yaml",))
    assert registry.newest()[0] == "v1"


def test_a_file_that_is_overwritten_during_the_upload_is_detected(registry: Registry, make_version: MakeVersion) -> None:
    client = before_put(
        registry.server.client(), "manifest.yaml", lambda: registry.put("kcbert/v1/deeper/weights.bin", b"theirs")
    )
    reject("rejected", "with a different deeper", lambda: registry.publisher(client).publish("kcbert", make_version(), "v1"))
    assert "latest_model.yaml" not in registry.paths()


def test_a_signed_version_is_verified_with_the_public_key(
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
    assert (unsigned.announced, "signature" in registry.latest()["kcbert"]) == (False, True)  # the signature is kept


def test_an_invalid_uri() -> None:
    for uri in ("", "http://bucket", "s3:///prefix"):
        reject("settings", "s3://bucket/prefix", lambda uri=uri: Publisher(uri))  # type: ignore[misc]


def test_a_server_that_does_not_answer(make_version: MakeVersion) -> None:
    publisher = Publisher("s3://models/x", _client_without_retries(f"http://127.0.0.1:{free_port()}"))
    reject("unreachable", "AWS_ENDPOINT_URL_S3", lambda: publisher.publish("kcbert", make_version(), "v1"))


def test_a_bucket_that_does_not_exist(server: SeaweedFS, make_version: MakeVersion) -> None:
    publisher = Publisher("s3://nowhere/x", server.client())
    reject("settings", "bucket does not exist", lambda: publisher.publish("kcbert", make_version(), "v1"))


@pytest.mark.parametrize(
    ("code", "status", "kind", "message"),
    [
        ("AccessDenied", 403, "settings", "s3:PutObject"),
        ("SignatureDoesNotMatch", 403, "settings", "AWS_SECRET_ACCESS_KEY"),
        ("SlowDown", 503, "unreachable", "overloaded or broken"),
        ("Teapot", 418, "failed", "Teapot, short and stout"),
    ],
)
def test_errors_of_s3(make_version: MakeVersion, code: str, status: int, kind: str, message: str) -> None:
    client = _client_without_retries("http://127.0.0.1:1")
    with Stubber(client) as stubber:
        stubber.add_client_error("get_object", code, "short and stout", http_status_code=status)
        reject(kind, message, lambda: Publisher("s3://models/x", client).publish("kcbert", make_version(), "v1"))


def test_missing_credentials(make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    reject("settings", "AWS_ACCESS_KEY_ID", lambda: Publisher("s3://models/x").publish("kcbert", make_version(), "v1"))


def test_the_server_honours_conditional_writes(registry: Registry) -> None:
    """Publishing relies on this; without it the tests above would prove nothing."""
    registry.put("one", b"1", IfNoneMatch="*")
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0123"'}):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            registry.put("one", b"2", **condition)


def _client_without_retries(url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}, signature_version="s3v4", connect_timeout=2),
    )
