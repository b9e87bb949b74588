"""The sidecar's TLS, without a socket: its server's context and its clients' context shake hands in memory."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.applications import Starlette

from bunriwiki.settings import Settings, read
from bunriwiki.web.bounded_http import BoundedHttp
from bunriwiki.web.open_files import max_connections
from bunriwiki.web.tls import trusting
from model_sync.settings import SyncSettings
from model_sync.sidecar import HTTP_SHARE, _server_config


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, as PEM files."""
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, None)
    )
    certificate, private = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(built.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Raises SSLError if one does not accept the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not sides


@pytest.fixture
def sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The certificate of a sidecar with TLS."""
    certificate, key = make_certificate(tmp_path, "sidecar")
    monkeypatch.setenv("BUNRIWIKI_SYNC_CERTIFICATE", str(certificate))
    monkeypatch.setenv("BUNRIWIKI_SYNC_KEY", str(key))
    return certificate


def server_context() -> ssl.SSLContext:
    config = _server_config(Starlette(), SyncSettings())
    config.load()
    assert config.ssl
    return config.ssl


def test_the_service_reaches_the_sidecar_over_tls(sidecar: Path) -> None:
    assert Settings().sidecar_url == "https://127.0.0.1:3002"
    context = trusting(Settings().sync_certificate)
    assert isinstance(context, ssl.SSLContext)
    shake_hands(server_context(), context)


def test_another_certificate_gets_no_token(sidecar: Path, tmp_path: Path) -> None:
    pretender, _ = make_certificate(tmp_path, "pretender")
    context = trusting(pretender)
    assert isinstance(context, ssl.SSLContext)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(), context)


def test_without_a_certificate_the_system_decides() -> None:
    assert trusting(None) is True
    assert not _server_config(Starlette(), SyncSettings()).is_ssl


def test_half_a_setting_does_not_serve_in_clear(sidecar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUNRIWIKI_SYNC_KEY")
    with pytest.raises(SystemExit, match="requires BUNRIWIKI_SYNC_KEY"):
        _server_config(Starlette(), SyncSettings())
    monkeypatch.setenv("BUNRIWIKI_SYNC_KEY", str(sidecar))
    monkeypatch.delenv("BUNRIWIKI_SYNC_CERTIFICATE")
    with pytest.raises(SystemExit, match="requires BUNRIWIKI_SYNC_CERTIFICATE"):
        read(SyncSettings)


def test_the_api_has_limits_for_connections_with_tls_and_without(sidecar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tls = _server_config(Starlette(), SyncSettings())
    monkeypatch.delenv("BUNRIWIKI_SYNC_CERTIFICATE")
    monkeypatch.delenv("BUNRIWIKI_SYNC_KEY")
    for config in (with_tls, _server_config(Starlette(), SyncSettings())):
        config.load()
        assert issubclass(config.http_protocol_class, BoundedHttp)
        assert config.http_protocol_class.pool.limits.connections == max_connections(HTTP_SHARE)
