from __future__ import annotations

from model_sync.importing.postponed import MAX_PAUSE_SECONDS, Postponed


def test_pauses_double_up_to_an_hour_and_do_not_end() -> None:
    now = 0.0
    postponed = Postponed(lambda: now)
    pauses = []
    for _ in range(100):
        postponed.add("d1", "it was too late")
        pauses.append(postponed.seconds("d1"))
        now += pauses[-1]
        assert postponed.seconds("d1") == 0
    assert pauses[:4] == [10, 20, 40, 80]
    assert set(pauses[9:]) == {MAX_PAUSE_SECONDS}
    assert postponed.sentence("d1") == "it was too late. Undecided in attempt 100; the next one begins in 0 s"


def test_another_offer_starts_again() -> None:
    postponed = Postponed(lambda: 0.0)
    postponed.add("d1", "it was too late")
    postponed.add("d1", "it was too late")
    assert postponed.seconds("d2") == 0
    postponed.add("d2", "it was too late")
    assert (postponed.seconds("d1"), postponed.seconds("d2")) == (0, 10)
