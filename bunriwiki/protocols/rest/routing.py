"""Which endpoint answers a path.

A path without parameters costs a dictionary look-up, which Starlette's router cannot offer
(docs/adr/0011-routing-without-starlette.md).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response

MAX_REMEMBERED = 128  # paths with parameters whose match is remembered
MAX_REMEMBERED_LENGTH = 256  # characters of such a path: clients make up paths, and a match must not keep long ones in memory

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint, and what the server has to know before it calls the endpoint.

    `path` may have parameters (`/v1/models/{model}/pin`); it is the label of the route in the metrics. `pattern` is a regular
    expression for the paths that such a template cannot express. `max_body_bytes` is None for an endpoint that takes no body.
    With `log`, a line per request is logged. `model` is the one that a prediction is of, if the path does not name it. A route
    for GET answers HEAD as well.
    """

    method: Literal["GET", "POST"]
    path: str
    endpoint: Endpoint
    max_body_bytes: int | None = None
    pattern: str | None = None
    log: bool = False
    model: str = ""

    @property
    def allow(self) -> str:
        """The methods of the route, as the header `Allow` has them."""
        return "GET, HEAD" if self.method == "GET" else self.method

    def allows(self, method: str) -> bool:
        return method == self.method or (method == "HEAD" and self.method == "GET")


class Match(NamedTuple):
    """The route of a path, and the path's parameters by their names.

    `model` is the one of the route or of the path, which a client may have made up; empty if there is none.
    """

    route: Route
    path_params: Mapping[str, str]
    model: str


class Router:
    """Finds the route of a path: a route without parameters, or else the first of `routes` that matches."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, Match] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        for route in routes:
            if route.pattern is None and "{" not in route.path:
                self._exact[route.path] = Match(route, {}, route.model)
            else:
                self._patterns.append((re.compile(route.pattern or _pattern(route.path)), route))
        self._remembered = lru_cache(maxsize=MAX_REMEMBERED)(self._search)

    def match(self, path: str) -> Match | None:
        """The route of a path, whatever the method; None if no route has it."""
        found = self._exact.get(path)
        if found is not None:
            return found
        return self._remembered(path) if len(path) <= MAX_REMEMBERED_LENGTH else self._search(path)

    def _search(self, path: str) -> Match | None:
        for pattern, route in self._patterns:
            if found := pattern.fullmatch(path):
                path_params = {name: text for name, text in found.groupdict().items() if text}
                return Match(route, path_params, route.model or path_params.get("model", ""))
        return None


def _pattern(path: str) -> str:
    return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))
