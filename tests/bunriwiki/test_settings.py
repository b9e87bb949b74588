from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from bunriwiki.container.limits import Memory
from bunriwiki.settings import Settings, settings
from bunriwiki.testing.paths import ROOT


@pytest.fixture(autouse=True)
def fresh() -> None:
    settings.cache_clear()


def test_the_defaults_serve_the_bundled_models() -> None:
    assert {path.name for path in Settings().models.iterdir()} >= {"yolo", "kcbert", "sentiment"}


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_DEADLINE_SECONDS", "2.5")
    monkeypatch.setenv("BUNRIWIKI_LOG_REQUESTS", "false")
    assert (settings().deadline_seconds, settings().log_requests) == (2.5, False)


def test_workers_threads_and_memory_follow_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.settings.cores", lambda: 9)
    monkeypatch.setattr("bunriwiki.settings.memory", lambda: Memory(limit=6 * 2**30, used=0))
    found = settings()
    assert (found.gateway_workers, found.runner_workers, found.threads, found.max_rss_mb) == (2, 2, 4, 3072)
    monkeypatch.setenv("BUNRIWIKI_RUNNER_WORKERS", "5")
    assert Settings().runner_workers == 5


def test_trusted_proxies_are_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().proxies == []
    monkeypatch.setenv("BUNRIWIKI_TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::1,")
    assert Settings().proxies == [ip_network("10.0.0.0/8"), ip_network("2001:db8::1")]


@pytest.mark.parametrize("name", ["BUNRIWIKI_GRPC_CERTIFICATE", "BUNRIWIKI_GRPC_KEY", "BUNRIWIKI_GRPC_CLIENTS"])
def test_incomplete_tls_settings_stop_the_start(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, __file__)
    with pytest.raises(SystemExit, match=f"Wrong setting. .*{name}"):
        settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("BUNRIWIKI_DEADLINE_SECONDS", "soon"),
        ("BUNRIWIKI_RUNNER_WORKERS", "-1"),
        ("BUNRIWIKI_MODELS", "/nowhere"),
        ("BUNRIWIKI_LOG_LEVEL", "LOUD"),
        ("BUNRIWIKI_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("BUNRIWIKI_TRUSTED_PROXIES", "10.0.0.1, edge"),
    ],
)
def test_a_wrong_value_stops_the_start_and_names_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"Wrong setting. {name}='{value}'"):
        settings()


@pytest.mark.parametrize(
    ("port", "url", "found"),
    [
        ("", "", "http://127.0.0.1:3002"),
        ("4002", "", "http://127.0.0.1:4002"),
        ("4002", "http://sync.example/", "http://sync.example"),
        ("0", "", None),
    ],
)
def test_the_url_of_the_sidecar_follows_its_port(
    monkeypatch: pytest.MonkeyPatch, port: str, url: str, found: str | None
) -> None:
    for name, value in (("PORT", port), ("URL", url)):
        if value:
            monkeypatch.setenv(f"BUNRIWIKI_SYNC_{name}", value)
    assert Settings().sidecar_url == found


def test_a_short_feedback_key_stops_the_start_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_FEEDBACK_KEY", f"{'k' * 32}, too-short")
    with pytest.raises(
        SystemExit, match=r"Wrong setting\. BUNRIWIKI_FEEDBACK_KEY: a key has fewer than 32 characters"
    ) as caught:
        settings()
    assert "too-short" not in str(caught.value)


def test_keys_and_tokens_of_feedback(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Settings().feedback_keys, Settings().feedback_tokens) == ([], [])
    monkeypatch.setenv("BUNRIWIKI_FEEDBACK_KEY", f"{'n' * 32}, {'o' * 32},")
    monkeypatch.setenv("BUNRIWIKI_FEEDBACK_TOKEN", "rater, another")
    monkeypatch.setenv("BUNRIWIKI_ADMIN_TOKEN", "admin")
    assert Settings().feedback_keys == ["n" * 32, "o" * 32]
    assert Settings().feedback_tokens == ["admin", "rater", "another"]
    assert Settings().admin_tokens == ["admin"]


@pytest.mark.parametrize("place", ["store/samples", "store", "models"])
def test_samples_and_logs_are_where_no_runner_may_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("BUNRIWIKI_MODEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("BUNRIWIKI_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("BUNRIWIKI_SAMPLES", str(tmp_path / "samples"))
    assert settings().samples == tmp_path / "samples"
    settings.cache_clear()
    for folder in (tmp_path / place, ROOT / "samples"):
        monkeypatch.setenv("BUNRIWIKI_SAMPLES", str(folder))
        with pytest.raises(SystemExit, match="BUNRIWIKI_SAMPLES must be outside"):
            settings()
    monkeypatch.delenv("BUNRIWIKI_SAMPLES")
    monkeypatch.setenv("BUNRIWIKI_LOG_FOLDER", str(tmp_path / place))
    with pytest.raises(SystemExit, match="BUNRIWIKI_LOG_FOLDER must be outside"):
        settings()


@pytest.mark.parametrize("name", ["LOG_FOLDER", "SAMPLES", "SYNC_CERTIFICATE", "GRPC_KEY"])
def test_an_empty_path_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"BUNRIWIKI_{name}", "")
    assert getattr(Settings(), name.lower()) is None
