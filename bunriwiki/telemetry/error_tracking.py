"""Error tracking with Sentry: each record of level ERROR or above becomes an event, of which only harmless parts are sent."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from loguru import logger

from bunriwiki import __version__
from bunriwiki.ipc.trace import current_trace

if TYPE_CHECKING:
    from loguru import Message
    from sentry_sdk.types import Event, Hint

SENT = ("event_id", "timestamp", "level", "platform", "release", "server_name", "tags", "fingerprint", "logger", "transaction")
SENT_OF_FRAMES = ("filename", "function", "module", "lineno", "in_app")


def start(dsn: str, role: str) -> None:
    """Send the errors that this process logs from now on to the project of `dsn`; nothing if it is empty.

    `role` is the tag of the process. Call it after `logs.configure`. Events are sent in a thread; a server that does not answer
    costs nothing but the events.
    """
    if not dsn:
        return
    import sentry_sdk

    sentry_sdk.init(
        dsn=dsn,
        release=__version__,
        server_name=socket.gethostname(),
        # Integrations would record requests, command lines and log messages.
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
        send_client_reports=False,
        before_send=scrubbed,
    )
    sentry_sdk.set_tag("role", role)
    logger.add(_capture, level="ERROR", format="", diagnose=False, backtrace=False)


def scrubbed(event: Event, _: Hint) -> Event:
    """An event with those of its parts that neither a client nor third-party code can write to."""
    given: Mapping[str, Any] = event
    kept: dict[str, Any] = {name: given[name] for name in SENT if name in given}
    kept["exception"] = {"values": [_exception(each) for each in (given.get("exception") or {}).get("values") or []]}
    kept["contexts"] = (
        {"trace": {"trace_id": trace.trace_id, "span_id": trace.span_id}} if (trace := current_trace.get()) else {}
    )
    return cast("Event", kept)


def _exception(given: Mapping[str, Any]) -> dict[str, Any]:
    frames = (given.get("stacktrace") or {}).get("frames") or []
    kept = [{name: frame[name] for name in SENT_OF_FRAMES if name in frame} for frame in frames]
    return {"type": given.get("type"), "module": given.get("module"), "value": "", "stacktrace": {"frames": kept}}


def _capture(message: Message) -> None:
    import sentry_sdk
    from sentry_sdk.utils import event_from_exception

    record = message.record
    place = f"{record['name']}:{record['function']}:{record['line']}"
    event: Event = {"level": "error", "logger": record["name"] or "", "transaction": place}
    if (error := record["exception"]) is not None and error.value is not None:
        of_exception, _ = event_from_exception(error.value, sentry_sdk.get_client().options)
        event["exception"] = of_exception["exception"]
    else:
        # The title: without the message, the place is all there is.
        event["exception"] = {"values": [{"type": place, "value": ""}]}
    event["fingerprint"] = ["{{ default }}", place]
    sentry_sdk.capture_event(event)
