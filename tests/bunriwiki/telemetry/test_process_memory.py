from __future__ import annotations

from bunriwiki.telemetry.process_memory import resident_memory, trim

MB = 2**20


def test_the_memory_of_this_process() -> None:
    before = resident_memory()
    block = bytearray(b"a" * 64 * MB)
    assert resident_memory() >= before + 32 * MB
    del block
    trim()
