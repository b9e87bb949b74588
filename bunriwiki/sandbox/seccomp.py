"""Builds and installs the seccomp filter: a BPF program that the kernel runs at every system call, also after `execve`."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from bunriwiki.sandbox.kernel import LIBC, check
from bunriwiki.sandbox.rules import ANSWERS, DENIED_IF, Check, allowed_if
from bunriwiki.sandbox.syscalls import NEWEST, number

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_* of the supported architectures

LOAD, AND = 0x20, 0x54  # load a word of `struct seccomp_data`; apply a mask
EQUAL, GREATER = 0x15, 0x25  # jump if the accumulator is equal, or greater
RETURN = 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in `struct seccomp_data`
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
PR_GET_SECCOMP, PR_SET_SECCOMP, MODE_FILTER = 21, 22, 2

Instruction = tuple[int, int, int, int]  # code, instructions to skip if true, if false, operand


def supported() -> bool:
    """Whether this kernel supports seccomp filters, and the tables include this architecture."""
    return os.uname().machine in AUDIT and sys.byteorder == "little" and LIBC.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def build(machine: str, pid: int) -> list[Instruction]:
    """Build the filter for the process `pid` on the architecture `machine`.

    Calls of another architecture (32-bit calls on x86_64) have other numbers: a process that makes one is killed. The x32 calls
    of x86_64 have numbers above NEWEST and fail with ENOSYS. Calls with checks come first: the kernel caches the result of the
    calls that are allowed without looking at their arguments.
    """
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, AUDIT[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (GREATER, 0, 1, NEWEST),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]
    blocks = {name: _all_hold(checks) for name, checks in allowed_if(pid).items()}
    blocks |= {name: _does_not_hold(denied) for name, denied in DENIED_IF.items()}
    blocks |= {name: [(RETURN, 0, 0, ERRNO | answer)] for name, answer in ANSWERS.items()}
    for name, block in blocks.items():
        if (called := number(name, machine)) is not None:
            program += [(EQUAL, 0, len(block), called), *block]
    return [*program, (RETURN, 0, 0, ALLOW)]


def install() -> None:
    """Filter the calls of this process, irrevocably. It must have no_new_privs, and no other thread. Raises OSError."""
    program = build(os.uname().machine, os.getpid())
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filtering = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    check(LIBC.prctl(PR_SET_SECCOMP, MODE_FILTER, filtering, 0, 0))


def _all_hold(checks: tuple[Check, ...]) -> list[Instruction]:
    block: list[Instruction] = []
    for rule in checks:
        block += [*_load(rule), *_jumps(rule), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    return [*block, (RETURN, 0, 0, ALLOW)]


def _does_not_hold(denied: Check) -> list[Instruction]:
    return [*_load(denied), *_jumps(denied), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno.EPERM)]


def _load(rule: Check) -> list[Instruction]:
    return [(LOAD, 0, 0, ARGUMENTS + 8 * rule.argument + 4 * rule.high), (AND, 0, 0, rule.mask)]


def _jumps(rule: Check) -> list[Instruction]:
    """Skip the instruction after these jumps if the word is one of the values."""
    return [(EQUAL, len(rule.values) - place, 0, value) for place, value in enumerate(rule.values)]
