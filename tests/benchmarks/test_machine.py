from __future__ import annotations

from benchmarks.machine import Noise, NoiseMonitor, Ticks


def test_the_first_line_of_proc_stat_is_read() -> None:
    ticks = Ticks.parse("cpu  100 10 50 1000 20 1 2 7 90 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert ticks == Ticks(total=1190, busy=163, stolen=7)


def test_a_machine_is_quiet_below_both_thresholds() -> None:
    assert Noise(foreign=0.05, stolen=0.01, load=9).quiet
    assert not Noise(foreign=0.06, stolen=0, load=0).quiet
    assert not Noise(foreign=0, stolen=0.02, load=0).quiet


def test_the_noise_of_this_machine_is_measured() -> None:
    noise = NoiseMonitor().noise()
    assert noise.foreign >= 0
    assert 0 <= noise.stolen <= 1
