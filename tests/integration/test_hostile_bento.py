"""The attacks on a served Bento: one or more of each kind, as the tests of the repository attempt them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bunriwiki.testing.paths import SERVE_ENV
from bunriwiki.testing.server import Server
from tests.integration.conftest import Bento
from tests.integration.test_hostile_bodies import (
    GRACE_SECONDS,
    test_json_of_brackets,
    test_messages_of_many_fields,
    test_unfinished_bodies_beside_honest_clients,
    warm_up,
)
from tests.integration.test_hostile_connections import (
    FILES,
    many_files,
    test_a_head_of_100_mb_is_rejected_and_nobody_waits_for_it,
    test_half_open_connections_keep_nobody_out,
    test_idle_streams_keep_nobody_out,
    test_unfinished_messages_take_no_more_than_their_client_may_have,
)
from tests.integration.test_hostile_images import (
    test_small_files_of_large_pictures_cost_nothing,
    test_texts_in_a_png_cost_no_time_of_the_event_loop,
)

# pytest finds the tests by their names, and they find the fixtures below.
__all__ = [
    "many_files",
    "test_a_head_of_100_mb_is_rejected_and_nobody_waits_for_it",
    "test_half_open_connections_keep_nobody_out",
    "test_idle_streams_keep_nobody_out",
    "test_json_of_brackets",
    "test_messages_of_many_fields",
    "test_small_files_of_large_pictures_cost_nothing",
    "test_texts_in_a_png_cost_no_time_of_the_event_loop",
    "test_unfinished_bodies_beside_honest_clients",
    "test_unfinished_messages_take_no_more_than_their_client_may_have",
]


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], bento: Bento) -> Iterator[Server]:
    """`bentoml serve <tag>` with the usual limit of open files."""
    started = start(
        grpc=True,
        command=["sh", "-c", f"ulimit -n {FILES}; exec {SERVE_ENV / 'bin' / 'bentoml'} serve {bento.tag}"],
        folder=bento.home,
        environment={**bento.environment, "BUNRIWIKI_BODY_GRACE_SECONDS": str(GRACE_SECONDS)},
    )
    warm_up(started)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def service(server: Server) -> Server:
    return server
