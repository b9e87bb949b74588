from __future__ import annotations

import os

from benchmarks.resident import resident, role


def test_the_role_of_a_worker_is_its_service() -> None:
    assert role(["python", "-m", "worker", "--fd", "9", "--service-name", "bunriwiki", "--backlog", "2048"]) == "gateway"
    assert role(["python", "-m", "worker", "--service-name", "kcbert"]) == "kcbert"
    assert role(["python", "--service-name"]) == "other"
    assert role([]) == "other"


def test_the_parent_is_part_of_the_sum() -> None:
    memory = resident(os.getpid())
    assert memory["sum"] >= memory["parent"] > 0
