from __future__ import annotations

from bunriwiki.protocols.handlers.statistics import StatisticsByVersion


def test_requests_and_executions_by_version() -> None:
    of = StatisticsByVersion()
    of.of("v1").answered(3, 1e-7)
    of.of("v1").infer.add(6e-8)
    of.of("v2").fail.add(5e-9)
    first = of.all()["v1"]
    assert (first.success.count, first.success.ns, first.inferences, first.infer.count, first.infer.ns) == (1, 100, 3, 1, 60)
    assert first.last_ms > 0
    assert of.all()["v2"].fail.count == 1


def test_old_versions_are_removed() -> None:
    of = StatisticsByVersion()
    for number in range(100):
        of.of(f"v{number}").answered(1, 1)
    assert list(of.all()) == [f"v{number}" for number in range(84, 100)]
