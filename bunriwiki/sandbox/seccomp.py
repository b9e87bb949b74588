"""The rules as a seccomp filter: a program that the kernel runs at every system call, for good and across `execve`."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from bunriwiki.sandbox.kernel import LIBC, check
from bunriwiki.sandbox.rules import ANSWERS, UNLESS, Check, only
from bunriwiki.sandbox.syscalls import NEWEST, number

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # the architectures as the kernel's audit names them

LOAD, AND = 0x20, 0x54  # a word of `struct seccomp_data`; a mask
EQUAL, GREATER = 0x15, 0x25  # jump if the accumulator is, or is greater than
RETURN = 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in `struct seccomp_data`
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
PR_GET_SECCOMP, PR_SET_SECCOMP, MODE_FILTER = 21, 22, 2

Instruction = tuple[int, int, int, int]  # code, instructions to skip if true, if false, operand


def supported() -> bool:
    """Whether this kernel filters system calls, and the tables know this architecture."""
    return os.uname().machine in AUDIT and sys.byteorder == "little" and LIBC.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def build(machine: str, pid: int) -> list[Instruction]:
    """The filter for the process `pid`.

    Another architecture's calls (32-bit ones on x86_64) have other numbers: who makes one is killed. The x32 calls of x86_64
    are beyond the newest number, and so do not exist. Calls with checks stand first: the kernel remembers the answer to others.
    """
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, AUDIT[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (GREATER, 0, 1, NEWEST),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]
    blocks = {name: _all_hold(checks) for name, checks in only(pid).items()}
    blocks |= {name: _does_not_hold(unwanted) for name, unwanted in UNLESS.items()}
    blocks |= {name: [(RETURN, 0, 0, ERRNO | answer)] for name, answer in ANSWERS.items()}
    for name, block in blocks.items():
        if (called := number(name, machine)) is not None:
            program += [(EQUAL, 0, len(block), called), *block]
    return [*program, (RETURN, 0, 0, ALLOW)]


def install() -> None:
    """Filter the calls of this process. It must have no_new_privs, and no other thread."""
    program = build(os.uname().machine, os.getpid())
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filtering = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    check(LIBC.prctl(PR_SET_SECCOMP, MODE_FILTER, filtering, 0, 0))


def _all_hold(checks: tuple[Check, ...]) -> list[Instruction]:
    block: list[Instruction] = []
    for one in checks:
        block += [*_load(one), *_jumps(one), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    return [*block, (RETURN, 0, 0, ALLOW)]


def _does_not_hold(unwanted: Check) -> list[Instruction]:
    return [*_load(unwanted), *_jumps(unwanted), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno.EPERM)]


def _load(one: Check) -> list[Instruction]:
    return [(LOAD, 0, 0, ARGUMENTS + 8 * one.argument + 4 * one.high), (AND, 0, 0, one.mask)]


def _jumps(one: Check) -> list[Instruction]:
    """Past the next instruction that is no jump, if the word is one of the values."""
    return [(EQUAL, len(one.values) - place, 0, value) for place, value in enumerate(one.values)]
