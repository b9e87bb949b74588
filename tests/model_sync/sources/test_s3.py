from __future__ import annotations

import hashlib
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from bunriwiki.testing.aws import CREDENTIALS, REGION
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.seaweedfs import SeaweedFS
from model_sync.errors import RejectedError, SourceError
from model_sync.sources import Offer, RemoteFile
from model_sync.sources import s3 as s3_module
from model_sync.sources.latest_model import FullEntry
from model_sync.sources.s3 import S3Source

pytestmark = pytest.mark.slow

WEIGHTS = b"0123456789" * 100


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def client_for(
    url: str,
    *,
    key_id: str = CREDENTIALS["AWS_ACCESS_KEY_ID"],
    secret: str = CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    **config: Any,
) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        region_name=REGION,
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}, signature_version="s3v4", **config),
    )


class Registry:
    """A separate prefix on the real server, and the requests since the last `put`."""

    def __init__(self, server: SeaweedFS) -> None:
        self.server = server
        self.client: Any = server.client()
        self.prefix = uuid.uuid4().hex
        self.uri = f"s3://{server.BUCKET}/{self.prefix}"
        self.requests: list[tuple[str, int]] = []
        self.ranges: list[str | None] = []
        self.client.meta.events.register("after-call.s3", self._note)
        self.client.meta.events.register("before-send.s3", self._note_range)

    def put(self, path: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.server.BUCKET, Key=f"{self.prefix}/{path}", Body=data)
        self.requests.clear()
        self.ranges.clear()

    def delete(self, path: str) -> None:
        self.client.delete_object(Bucket=self.server.BUCKET, Key=f"{self.prefix}/{path}")

    def publish(self, **models: Any) -> None:
        self.put("latest_model.yaml", yaml.safe_dump(models).encode())

    def publish_yolo(self, files: dict[str, bytes], *, version: str = "v3", **more: Any) -> dict[str, Any]:
        for path, data in files.items():
            self.put(f"yolo/{version}/{path}", data)
        listed = [{"path": path, "size": len(data), "sha256": sha256(data)} for path, data in files.items()]
        entry = {"version": version, "path": f"yolo/{version}", "files": listed, **more}
        self.publish(yolo=entry)
        return entry

    def source(self, **more: Any) -> S3Source:
        return S3Source(self.uri, client=self.client, **more)

    def _note(self, model: Any, http_response: Any, **_: Any) -> None:
        self.requests.append((model.name, http_response.status_code))

    def _note_range(self, request: Any, **_: Any) -> None:
        found = request.headers.get("Range")
        self.ranges.append(found.decode() if isinstance(found, bytes) else found)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
def registry(server: SeaweedFS) -> Registry:
    return Registry(server)


def newest(source: S3Source) -> Offer:
    offer = source.newest("yolo")
    assert offer
    return offer


def test_the_full_form_is_offered(registry: Registry) -> None:
    entry = registry.publish_yolo({"best.pt": WEIGHTS, "data/names.txt": b"glass"})
    source = registry.source()
    digest = FullEntry.model_validate(entry).digest
    assert newest(source) == Offer("yolo", "v3", digest, f"{registry.uri}/yolo/v3")
    assert source.files(newest(source)) == (
        RemoteFile("best.pt", 1000, sha256(WEIGHTS)),
        RemoteFile("data/names.txt", 5, sha256(b"glass")),
    )
    assert source.newest("kcbert") is None


def test_the_aws_variables_configure_the_client(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.publish_yolo({"best.pt": WEIGHTS})
    for name, value in registry.server.environment.items():
        monkeypatch.setenv(name, value)
    assert newest(S3Source(registry.uri + "/")).version == "v3"


def test_an_unchanged_file_takes_one_conditional_request(registry: Registry) -> None:
    registry.publish_yolo({"best.pt": WEIGHTS})
    source = registry.source()
    first = newest(source)
    assert newest(source) == first
    assert registry.requests == [("GetObject", 200), ("GetObject", 304)]
    registry.publish_yolo({"best.pt": WEIGHTS}, version="v4")
    assert newest(source).version == "v4"


def test_callers_share_a_request_that_began_after_they_called(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.publish_yolo({"best.pt": WEIGHTS})
    source = registry.source()
    entered, let_go = threading.Event(), threading.Event()
    get = registry.client.get_object

    def slow_get(**arguments: Any) -> Any:
        entered.set()
        assert let_go.wait(10)
        return get(**arguments)

    registry.client.get_object = slow_get
    clock = SimpleNamespace(now=0)

    def tick() -> int:
        clock.now += 1
        return int(clock.now)

    monkeypatch.setattr(s3_module, "time", SimpleNamespace(monotonic=tick))
    found: list[Offer] = []
    threads = [threading.Thread(target=lambda: found.append(newest(source))) for _ in range(3)]
    threads[0].start()
    assert entered.wait(10)
    before = clock.now
    for thread in threads[1:]:
        thread.start()
    while clock.now < before + 2:  # until both have called `newest`
        time.sleep(0.01)
    let_go.set()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert registry.requests == [("GetObject", 200), ("GetObject", 304)]


@pytest.mark.parametrize("path", ["yolo/v3/", "yolo/v3"])
def test_a_folder_in_the_short_form(registry: Registry, path: str, tmp_path: Path) -> None:
    for key in ("yolo/v3/best.pt", "yolo/v3/data/names.txt", "yolo/v3.1/best.pt", "yolo/v30"):
        registry.put(key, key.encode())
    registry.publish(yolo=path)
    source = registry.source()
    offer = newest(source)
    assert (offer.version, offer.uri) == ("v3", f"{registry.uri}/yolo/v3")
    assert source.files(offer) == (RemoteFile("best.pt", 15), RemoteFile("data/names.txt", 22))
    source.download(offer, RemoteFile("data/names.txt", 22), tmp_path / "part", threading.Event())
    assert (tmp_path / "part").read_bytes() == b"yolo/v3/data/names.txt"


def test_a_file_in_the_short_form(registry: Registry, tmp_path: Path) -> None:
    registry.put("yolo/best.pt", WEIGHTS)
    registry.put("yolo/best.pt.md5", b"0")
    registry.publish(yolo="yolo/best.pt")
    source = registry.source()
    offer = newest(source)
    assert offer.version == f"r-{offer.digest[:12]}"
    [file] = source.files(offer)
    assert file == RemoteFile("best.pt", 1000)
    source.download(offer, file, tmp_path / "part", threading.Event())
    assert (tmp_path / "part").read_bytes() == WEIGHTS


def test_a_changed_object_changes_the_offer_of_the_short_form(registry: Registry, tmp_path: Path) -> None:
    registry.put("yolo/v3/best.pt", WEIGHTS)
    registry.publish(yolo="yolo/v3/")
    source = registry.source()
    first = newest(source)
    [file] = source.files(first)
    assert newest(source) == first
    registry.put("yolo/v3/best.pt", WEIGHTS[::-1])
    part = tmp_path / "part"
    part.write_bytes(WEIGHTS[:300])
    with pytest.raises(SourceError, match=r"best\.pt changed during the download"):
        source.download(first, file, part, threading.Event())
    assert not part.exists()
    assert newest(source).digest != first.digest
    with pytest.raises(SourceError, match="yolo v3 is no longer the newest version"):
        source.files(first)


def test_a_short_form_with_a_missing_path(registry: Registry) -> None:
    registry.publish(yolo="yolo/v3/")
    with pytest.raises(SourceError, match=r"names s3://models/.*/yolo/v3 for yolo, which does not exist: upload it"):
        registry.source().newest("yolo")


def test_a_download_is_resumed(registry: Registry, tmp_path: Path) -> None:
    registry.publish_yolo({"best.pt": WEIGHTS, "empty": b""})
    source = registry.source()
    offer = newest(source)
    weights, empty = source.files(offer)
    part = tmp_path / "part"
    source.download(offer, weights, part, threading.Event())
    assert part.read_bytes() == WEIGHTS
    part.write_bytes(WEIGHTS[:300])
    source.download(offer, weights, part, threading.Event())
    assert part.read_bytes() == WEIGHTS
    assert registry.ranges == [None, None, "bytes=300-"]
    source.download(offer, weights, part, threading.Event())  # nothing is missing
    assert len(registry.ranges) == 3
    part.write_bytes(WEIGHTS * 2)
    source.download(offer, weights, part, threading.Event())
    assert part.read_bytes() == WEIGHTS
    source.download(offer, empty, tmp_path / "empty", threading.Event())
    assert (tmp_path / "empty").read_bytes() == b""


def test_bytes_of_two_objects_are_not_mixed(registry: Registry, tmp_path: Path) -> None:
    registry.publish_yolo({"best.pt": WEIGHTS})
    source = registry.source()
    offer = newest(source)
    [file] = source.files(offer)
    part = tmp_path / "part"
    source.download(offer, file, part, threading.Event())
    part.write_bytes(WEIGHTS[:300])
    registry.put("yolo/v3/best.pt", WEIGHTS[::-1])
    newest(source)  # a sync in between must not forget the ETag
    with pytest.raises(SourceError, match="changed during the download"):
        source.download(offer, file, part, threading.Event())
    assert not part.exists()
    source.download(offer, file, part, threading.Event())
    assert part.read_bytes() == WEIGHTS[::-1]


def test_an_object_of_another_size_is_rejected_and_a_missing_one_is_not(registry: Registry, tmp_path: Path) -> None:
    registry.publish_yolo({"best.pt": WEIGHTS})
    registry.put("yolo/v3/best.pt", WEIGHTS[:-1])
    source = registry.source()
    offer = newest(source)
    [file] = source.files(offer)
    for have in (0, 300):
        (tmp_path / "part").write_bytes(WEIGHTS[:have])
        with pytest.raises(RejectedError, match=r"^best\.pt has 999 bytes in S3, latest_model\.yaml says 1000$"):
            source.download(offer, file, tmp_path / "part", threading.Event())
    registry.put("yolo/v3/best.pt", b"0")
    with pytest.raises(SourceError, match="changed"):  # it has no byte 300
        source.download(offer, file, tmp_path / "part", threading.Event())
    with pytest.raises(RejectedError, match="has 1 bytes in S3"):
        source.download(offer, file, tmp_path / "part", threading.Event())
    registry.delete("yolo/v3/best.pt")
    with pytest.raises(SourceError, match=r"s3://models/.*/yolo/v3/best\.pt does not exist: publish it"):
        source.download(offer, file, tmp_path / "part", threading.Event())


@pytest.mark.parametrize("signature", ["MEUCIQ", None])
def test_the_digest_does_not_cover_the_signature(registry: Registry, signature: str | None) -> None:
    entry = registry.publish_yolo({"best.pt": WEIGHTS}, signature="another")
    source = registry.source()
    first = newest(source)
    registry.publish(
        yolo={**entry, "signature": signature} if signature else {k: v for k, v in entry.items() if k != "signature"}
    )
    assert newest(source) == replace(first, signature=signature)
    assert source.files(first)


def test_the_short_form_has_no_signature(registry: Registry) -> None:
    registry.put("yolo/v3/best.pt", WEIGHTS)
    registry.publish(yolo="yolo/v3/")
    assert newest(registry.source()).signature is None


def test_an_invalid_uri() -> None:
    with pytest.raises(ValueError, match="should look like s3://bucket/prefix"):
        S3Source("bucket/prefix")


def test_a_registry_without_the_file(registry: Registry) -> None:
    with pytest.raises(SourceError, match=r"s3://models/.*/latest_model\.yaml does not exist yet: publish a version"):
        registry.source().newest("yolo")


def test_a_bucket_that_does_not_exist(registry: Registry) -> None:
    with pytest.raises(SourceError, match="the bucket does not exist: create it"):
        S3Source("s3://elsewhere", client=registry.client).newest("yolo")


def test_wrong_credentials(server: SeaweedFS) -> None:
    with pytest.raises(SourceError, match="the access key is not known there: check AWS_ACCESS_KEY_ID"):
        S3Source("s3://models", client=client_for(server.url, key_id="nobody")).newest("yolo")
    with pytest.raises(SourceError, match="does not fit the access key: check AWS_SECRET_ACCESS_KEY"):
        S3Source("s3://models", client=client_for(server.url, secret="wrong")).newest("yolo")


def test_no_credentials(server: SeaweedFS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    with pytest.raises(SourceError, match=r"S3 needs credentials for s3://models.*: set AWS_ACCESS_KEY_ID"):
        S3Source("s3://models").newest("yolo")


def test_a_server_that_is_down() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SourceError, match=f"S3 cannot be reached at {url} .*: check AWS_ENDPOINT_URL_S3"):
        S3Source("s3://models", client=client_for(url)).newest("yolo")


def test_a_server_that_does_not_answer(server: SeaweedFS) -> None:
    source = S3Source("s3://models", client=client_for(server.url, read_timeout=0.2))
    server.pause()
    try:
        with pytest.raises(SourceError, match=f"S3 cannot be reached at {server.url}"):
            source.newest("yolo")
    finally:
        server.resume()


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("ExpiredToken", 400, "the credentials have expired: renew them"),
        ("RequestTimeTooSkewed", 403, "this machine's clock is off by more than 15 minutes: set it"),
        ("AccessDenied", 403, "denies access to .* grant s3:GetObject and s3:ListBucket"),
        ("PermanentRedirect", 301, "another region: set AWS_DEFAULT_REGION"),
        ("SlowDown", 503, r"S3 answers 503 \(SlowDown\) for s3://models/latest_model.yaml: it is overloaded or broken"),
        ("InternalError", 500, r"S3 answers 500 \(InternalError\)"),
        ("Teapot", 418, "S3 rejects s3://models/latest_model.yaml: Teapot, short and stout"),
    ],
)
def test_errors_of_s3(code: str, status: int, message: str) -> None:
    client = client_for("http://127.0.0.1:1")
    with Stubber(client) as stubber:
        stubber.add_client_error("get_object", code, "short and stout", http_status_code=status)
        with pytest.raises(SourceError, match=message) as caught:
            S3Source("s3://models", client=client).newest("yolo")
    assert isinstance(caught.value.__cause__, ClientError)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], str]]:
    """Starts a server that is not S3: `serve(answer)` returns its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


Serve = Callable[[Callable[[BaseHTTPRequestHandler], None]], str]
LATEST = yaml.safe_dump(
    {"yolo": {"version": "v3", "path": "yolo/v3", "files": [{"path": "best.pt", "size": 1000, "sha256": sha256(WEIGHTS)}]}}
).encode()


def answer_with(weights: Callable[[BaseHTTPRequestHandler], object]) -> Callable[[BaseHTTPRequestHandler], None]:
    """An S3 with two objects: `latest_model.yaml`, and what `weights` sends after the headers."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        is_latest = request.path.endswith("latest_model.yaml")
        request.send_response(200)
        request.send_header("Content-Length", str(len(LATEST) if is_latest else len(WEIGHTS)))
        request.send_header("ETag", '"x"')
        request.end_headers()
        if is_latest:
            request.wfile.write(LATEST)
        else:
            weights(request)

    return answer


def download(source: S3Source, part: Path) -> None:
    offer = newest(source)
    [file] = source.files(offer)
    source.download(offer, file, part, threading.Event())


def test_a_lost_connection_keeps_the_received_bytes(serve: Serve, tmp_path: Path) -> None:
    url = serve(answer_with(lambda request: request.wfile.write(WEIGHTS[:700])))
    with pytest.raises(SourceError, match=r"the connection to S3 ended within s3://models/yolo/v3/best\.pt"):
        download(S3Source("s3://models", client=client_for(url)), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS[:700]


def test_a_silent_connection_is_aborted(serve: Serve, tmp_path: Path) -> None:
    done = threading.Event()

    def fall_silent(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(WEIGHTS[:700])
        done.wait(10)

    url = serve(answer_with(fall_silent))
    with pytest.raises(SourceError, match="S3 stopped sending"):
        download(S3Source("s3://models", client=client_for(url, read_timeout=0.2)), tmp_path / "part")
    done.set()


def test_a_slow_download_is_aborted(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "SPEED_WINDOW", 0.2)

    def trickle(request: BaseHTTPRequestHandler) -> None:
        for position in itertools.count():
            try:
                request.wfile.write(WEIGHTS[position : position + 1])
            except OSError:  # the client closed the connection
                return
            time.sleep(0.01)

    source = S3Source("s3://models", client=client_for(serve(answer_with(trickle))), min_speed=1000)
    with pytest.raises(SourceError, match=r"S3 sends s3://models/yolo/v3/best.pt at \d+ bytes/s, the minimum is 1000: check"):
        download(source, tmp_path / "part")
    part = (tmp_path / "part").read_bytes()
    assert part
    assert WEIGHTS.startswith(part)


def test_a_download_above_the_minimum_speed_is_not_aborted(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "SPEED_WINDOW", 0.02)

    def slowly(request: BaseHTTPRequestHandler) -> None:
        for position in range(0, len(WEIGHTS), 100):
            request.wfile.write(WEIGHTS[position : position + 100])
            time.sleep(0.01)

    source = S3Source("s3://models", client=client_for(serve(answer_with(slowly))), min_speed=1)
    download(source, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == WEIGHTS


def test_a_server_that_is_not_s3(serve: Serve) -> None:
    def hello(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(b"<h1>It works!</h1>")

    with pytest.raises(SourceError, match="names of the models"):
        S3Source("s3://models", client=client_for(serve(hello))).newest("yolo")


def test_a_file_that_is_far_too_long_is_not_read_completely(serve: Serve) -> None:
    sent = 0

    def endless(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        request.send_response(200)
        request.send_header("Content-Length", str(10**9))
        request.end_headers()
        while sent < 10**8:
            try:
                request.wfile.write(bytes(100_000))
            except OSError:
                return
            sent += 100_000

    with pytest.raises(SourceError, match="more than 1000000 bytes"):
        S3Source("s3://models", client=client_for(serve(endless))).newest("yolo")
    assert sent < 10**8


def test_an_incomplete_latest_model_is_not_used(serve: Serve) -> None:
    def cut(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"kcbert: kcbert/v1/\n")

    with pytest.raises(SourceError, match=r"ended within s3://models/latest_model\.yaml"):
        S3Source("s3://models", client=client_for(serve(cut))).newest("yolo")


def test_a_download_that_is_no_longer_wanted_ends(serve: Serve, tmp_path: Path) -> None:
    stop, over = threading.Event(), threading.Event()

    def endless(request: BaseHTTPRequestHandler) -> None:
        stop.set()
        request.wfile.write(WEIGHTS[:700])
        over.wait(10)

    source = S3Source("s3://models", client=client_for(serve(answer_with(endless))))
    offer = newest(source)
    [file] = source.files(offer)
    with pytest.raises(SourceError, match="cancelled"):
        source.download(offer, file, tmp_path / "part", stop)
    over.set()
