"""The configuration of the edge, as far as it can be checked without Envoy."""

from __future__ import annotations

from typing import Any

import yaml

from bunriwiki.testing.paths import ROOT

EDGE = ROOT / "deploy" / "edge"


def listener(name: str) -> dict[str, Any]:
    [found] = yaml.safe_load((EDGE / "listeners" / name).read_text(encoding="utf-8"))["resources"]
    return dict(found)


def test_the_listener_with_tls_differs_in_tls_only() -> None:
    plain, tls = listener("plain.yaml"), listener("tls.yaml")
    [chain] = tls["filter_chains"]
    assert chain.pop("transport_socket")["name"] == "envoy.transport_sockets.tls"
    assert tls == plain


def test_a_replica_has_ten_health_checks_to_leave_before_it_rejects_connections() -> None:
    clusters = yaml.safe_load((EDGE / "clusters.yaml").read_text(encoding="utf-8"))["resources"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    drain = float(compose["services"]["service"]["environment"]["BUNRIWIKI_DRAIN_SECONDS"])
    for cluster in clusters:
        [check] = cluster["health_checks"]
        assert drain >= 10 * float(check["interval"].removesuffix("s"))
        assert check["http_health_check"]["path"] == "/readyz"
        assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 1}
