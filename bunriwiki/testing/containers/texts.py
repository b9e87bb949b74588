"""A load of one text over REST through the edge, and the versions that answer it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from loguru import logger

TEXT = json.dumps({"text": "정말 재미있어요"}).encode()
HEADERS = {"Content-Type": "application/json"}
PAUSE_SECONDS = 0.02
TIMEOUT_SECONDS = 60.0
FEWEST = 50  # requests, with which a load has shown something


@contextmanager
def texts(url: str, clients: int = 4) -> Iterator[Counter[str]]:
    """Texts as long as the block lasts, and what came of them: status and version, with a slash between, or the error.

    They are logged as well.
    """
    found: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False, headers=HEADERS) as client:
            while not over.wait(PAUSE_SECONDS):
                try:
                    answer = client.post(f"{url}/predict", content=TEXT)
                    found[f"{answer.status_code}/{answer.headers.get('X-Model-Version')}"] += 1
                except httpx.HTTPError as error:
                    found[repr(error)] += 1

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        for thread in threads:
            thread.join()
        logger.info("{} texts: {}", found.total(), dict(found))


def failures(found: Counter[str]) -> dict[str, int]:
    """What came of the requests that were not answered with 200."""
    assert found.total() > FEWEST
    return {name: count for name, count in found.items() if not name.startswith("200/")}
