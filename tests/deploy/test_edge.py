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


def test_bodies_that_arrive_leave_a_third_of_the_memory_for_all_else() -> None:
    monitors = yaml.safe_load((EDGE / "envoy.yaml").read_text(encoding="utf-8"))["overload_manager"]["resource_monitors"]
    [heap] = [found for each in monitors if (found := each["typed_config"].get("max_heap_size_bytes"))]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]["edge"]["mem_limit"] == "512m"
    assert heap < 2 / 3 * 512 * 2**20


def test_an_ejected_replica_stays_out_though_its_health_checks_succeed() -> None:
    for cluster in yaml.safe_load((EDGE / "clusters.yaml").read_text(encoding="utf-8"))["resources"]:
        assert cluster["outlier_detection"]["successful_active_health_check_uneject_host"] is False
