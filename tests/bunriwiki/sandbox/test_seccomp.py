"""Interprets the filter's program as the kernel does; `test_escapes.py` tests it on the real kernel."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from bunriwiki.sandbox.rules import ANSWERS, DENIED_IF, allowed_if
from bunriwiki.sandbox.seccomp import ALLOW, AUDIT, ERRNO, KILL, build
from bunriwiki.sandbox.syscalls import ARCHITECTURES, NEWEST, NUMBERS, number

PID = 4242
REJECTED = ERRNO | errno.EPERM


def answer(machine: str, called: int, *arguments: int, audit: int | None = None) -> int:
    """The filter's result for a call."""
    words = {0: called, 4: AUDIT[machine] if audit is None else audit}
    for place, argument in enumerate((*arguments, 0, 0, 0, 0, 0, 0)[:6]):
        words[16 + 8 * place], words[20 + 8 * place] = argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF
    accumulator = at = 0
    program = build(machine, PID)
    while True:
        code, true, false, operand = program[at]
        at += 1
        match code:
            case 0x20:
                accumulator = words[operand]
            case 0x54:
                accumulator &= operand
            case 0x15:
                at += true if accumulator == operand else false
            case 0x25:
                at += true if accumulator > operand else false
            case 0x06:
                return operand


@pytest.fixture(params=ARCHITECTURES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def called(machine: str, name: str, *arguments: int) -> int:
    found = number(name, machine)
    assert found is not None
    return answer(machine, found, *arguments)


def test_every_rule_has_a_call_number_and_every_call_number_has_one_rule() -> None:
    ruled = [*ANSWERS, *DENIED_IF, *allowed_if(PID)]
    assert sorted(ruled) == sorted(NUMBERS)
    assert max(found for pair in NUMBERS.values() for found in pair if found is not None) <= NEWEST


def test_rejected_calls_fail_with_their_error(machine: str) -> None:
    for name, expected in ANSWERS.items():
        if number(name, machine) is not None:
            assert called(machine, name) == ERRNO | expected, name


def test_calls_without_a_rule_are_allowed(machine: str) -> None:
    ruled = {number(name, machine) for name in NUMBERS}
    for other in set(range(NEWEST + 1)) - ruled:
        assert answer(machine, other) == ALLOW


def test_calls_newer_than_the_tables_fail_with_enosys(machine: str) -> None:
    for newer in (NEWEST + 1, 512, 0x40000000, 0x40000000 + 41, 0xFFFFFFFF):
        assert answer(machine, newer) == ERRNO | errno.ENOSYS


def test_calls_of_another_architecture_kill_the_process(machine: str) -> None:
    assert answer(machine, 1, audit=0x40000003) == KILL


@pytest.mark.parametrize(
    ("name", "allowed", "rejected"),
    [
        ("clone", (0x003D0F00,), (0x11,)),
        ("clone", (0x00010000,), (0x10010000,)),
        ("kill", (PID,), (1,)),
        ("kill", (PID,), (0xFFFFFFFF,)),
        ("tgkill", (PID, 7), (7, 7)),
        ("sendto", (1, 2, 3, 4, 0), (1, 2, 3, 4, 0x1000)),
        ("sendto", (1, 2, 3, 4, 0), (1, 2, 3, 4, 0x100000000)),
        ("socketpair", (1, 0x80801), (1, 0x80802)),
        ("socketpair", (1, 5), (2, 1)),
        ("prlimit64", (0,), (1,)),
        ("prlimit64", (PID,), (PID + 1,)),
        ("setpriority", (0, 0), (0, 1)),
        ("setpriority", (0, PID), (2, 0)),
        ("ioctl", (0, 0x5413), (0, 0x5412)),
        ("ioctl", (0, 0x5413), (0, 0xFFFFFFFF00005412)),
        ("fcntl", (0, 3), (0, 8)),
        ("prctl", (15,), (1,)),
    ],
)
def test_checks_compare_arguments(machine: str, name: str, allowed: tuple[int, ...], rejected: tuple[int, ...]) -> None:
    assert called(machine, name, *allowed) == ALLOW
    assert called(machine, name, *rejected) == REJECTED


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")],
)
def test_the_numbers_match_the_kernels_headers(machine: str, header: str) -> None:
    file = Path("/usr/include") / header
    if not file.exists():
        pytest.skip("the kernel's headers are not installed")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", file.read_text()))
    stated = {name: str(found) for name in NUMBERS if (found := number(name, machine)) is not None and name in defined}
    assert stated == {name: defined[name] for name in stated}
    newer = {"fchmodat2", "setxattrat", "removexattrat", "open_tree_attr", "file_setattr", "lsm_set_self_attr"}
    assert {name for name in NUMBERS if number(name, machine) is not None} - set(defined) <= newer
