"""Keeps so many connections open to a service on this machine for a while, and prints what came of them as JSON.

python -m bunriwiki.testing.crowd --rest 3000 --grpc 3001 --kind hostile --members 1000 --seconds 60 --sources 127.0.0.2
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import resource
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

from bunriwiki.testing.crowd import honest, hostile
from bunriwiki.testing.crowd.member import Kind, Member

PAUSE_SECONDS = 1.0  # between two connections of a member
ARRIVAL_SECONDS = 2.0  # in which all members come
KINDS = {"hostile": lambda: hostile.SMALL, "large": lambda: hostile.WITH_LARGE, "honest": honest.kinds}


Counts = dict[str, dict[str, int]]  # by kind of member, what came of its connections and requests


async def run(kinds: dict[str, Kind], members: Iterable[Member], seconds: float) -> Counts:
    """Have the members do what `kinds` say, in turn, for so many seconds."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    tasks = []
    for (name, kind), member in zip(itertools.cycle(kinds.items()), members, strict=False):
        member.counts = counts[name]
        tasks.append(asyncio.create_task(live(kind, member)))
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        if task.done():
            task.result()  # raises what ended it: no member ends by itself
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {name: dict(found) for name, found in counts.items()}


async def live(kind: Kind, member: Member) -> None:
    """Make one connection after the other."""
    await asyncio.sleep(random.random() * ARRIVAL_SECONDS)  # noqa: S311 (no secret)
    member.begin()
    while True:
        try:
            member.counts[await kind(member)] += 1
        except TimeoutError:
            member.counts["no answer"] += 1
        except OSError:
            member.counts["refused or reset"] += 1
        await asyncio.sleep(PAUSE_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rest", type=int, required=True)
    parser.add_argument("--grpc", type=int, required=True)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--sources", nargs="+", default=["127.0.0.2"], help="the addresses that the connections come from")
    parser.add_argument("--only", help="a kind of member: there are no others")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    kinds = {name: kind for name, kind in KINDS[given.kind]().items() if given.only in (None, name)}
    members = [Member(given.rest, given.grpc, given.sources[number % len(given.sources)]) for number in range(given.members)]
    json.dump(asyncio.run(run(kinds, members, given.seconds)), sys.stdout)


if __name__ == "__main__":
    main()
