"""The two forms of a line in the log: for people, and as JSON with the field names of OpenTelemetry's log data model.

https://opentelemetry.io/docs/specs/otel/logs/data-model/
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from bunriwiki import __version__
from bunriwiki.ipc.trace import current_trace

if TYPE_CHECKING:
    from loguru import Record

# Of loguru's levels, in OpenTelemetry's ranges.
SEVERITIES = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "SUCCESS": 10, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}


def text_format(host: str, address: str) -> Callable[[Record], str]:
    """A format of loguru: `[time] - [hostname:IP] | [level] | [message]`. A trace id, if any, ends the message."""
    start = "[{time:YYYY-MM-DD HH:mm:ss.SSSZZ}] - [" + f"{host}:{address}" + "] | [{level}] | [{message}"

    def line(_: Record) -> str:
        trace = current_trace.get()
        return start + (f" | trace {trace.trace_id}" if trace else "") + "]\n{exception}"

    return line


def json_format(host: str, address: str, role: str) -> Callable[[Record], str]:
    """A format of loguru: one JSON object in each line. Times are nanoseconds since the epoch, as decimal digits."""
    resource = {
        "service.name": "bunriwiki",
        "service.version": __version__,
        "service.instance.id": f"{host}:{role}:{os.getpid()}",
        "host.name": host,
        "host.ip": [address],
        "process.pid": os.getpid(),
    }

    def line(record: Record) -> str:
        record["extra"]["json"] = msgspec.json.encode(_record(record, resource)).decode()
        return "{extra[json]}\n"

    return line


def _record(record: Record, resource: dict[str, Any]) -> dict[str, Any]:
    level = record["level"]
    attributes: dict[str, Any] = {
        "code.file.path": record["file"].path,
        "code.function.name": record["function"],
        "code.line.number": record["line"],
        "thread.name": record["thread"].name,
    }
    if (error := record["exception"]) is not None and error.type is not None:
        attributes["exception.type"] = error.type.__qualname__
        attributes["exception.message"] = str(error.value)
        attributes["exception.stacktrace"] = "".join(traceback.format_exception(error.type, error.value, error.traceback))
    found: dict[str, Any] = {
        "Timestamp": str(int(record["time"].timestamp() * 1e6) * 1000),
        "ObservedTimestamp": str(time.time_ns()),
        "SeverityText": level.name,
        "SeverityNumber": SEVERITIES.get(level.name, 9),
        "Body": record["message"],
        "Resource": resource,
        "InstrumentationScope": {"Name": record["name"] or ""},
        "Attributes": attributes,
    }
    if trace := current_trace.get():
        found |= {"TraceId": trace.trace_id, "SpanId": trace.span_id, "TraceFlags": int(trace.sampled)}
    return found
