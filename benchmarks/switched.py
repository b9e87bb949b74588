"""The no-op service (`noop.py`), in which signals switch metrics, drift and tickets off and on: `metrics.py` compares these.

So the same process is measured in every mode: two processes with the same code differ by several microseconds per request, as
their memory lies differently in the caches. The methods without what counts are compiled from the service's own source without
these statements, so nothing else differs, and not even a call that does nothing is left. A statement that the source no longer
has ends the start.

bentoml serve benchmarks.switched:Bunriwiki
"""

from __future__ import annotations

import inspect
import signal
import textwrap
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType

from benchmarks.modes import Mode
from benchmarks.noop import Bunriwiki
from bunriwiki.artifacts.features import FeatureCounts
from bunriwiki.protocols.handlers.dataplane import Model
from bunriwiki.protocols.rest.endpoints import Endpoints
from bunriwiki.protocols.rest.server import RestServer
from bunriwiki.telemetry.metrics import gauges

ANNOTATIONS = "from __future__ import annotations\n"  # as every module has it
# What is replaced in each method. `pass` compiles to nothing.
TICKETS: Mapping[object, Mapping[str, str]] = {
    Endpoints._served: {
        "if ticket := self._feedback.ticket(given, served, request.request_id):": "if False:",
    },
}
METRICS: Mapping[object, Mapping[str, str]] = {
    RestServer.__call__: {
        "metrics = self._metrics[route]": "pass",
        "metrics.running += 1": "pass",
        "metrics.latest = began = time.perf_counter()": "began = time.perf_counter()",  # for the log
        'timing = RequestTiming(metrics, scope["method"], began)': "timing = began",
        "metrics.running -= 1": "pass",
        "if not timing.ended:": "if False:",
    },
    RestServer._answer: {
        "timing.end(response.status)": "pass",
        "timing.began": "timing",
    },
    Model.infer: {
        "if timing is not None and timing.answer is None:": "if False:",
        "self.metrics.answered(last.version, len(inputs), answered - begun, last.called - begun)": "pass",
    },
    Model._call_runner: {"self.metrics.calls.append((len(batch), answers.work))": "pass"},
}
Codes = Mapping[FunctionType, CodeType]


def nothing(*_: object) -> None:
    pass


def functions(*found: object) -> list[FunctionType]:
    """The same, as what they are: to a type checker they are callables."""
    return [each for each in found if isinstance(each, FunctionType)]


def without(method: FunctionType, replaced: Mapping[str, str]) -> CodeType:
    """The code of `method` with these parts of its source replaced, each of which it has once."""
    source = ANNOTATIONS + textwrap.dedent(inspect.getsource(method))
    for old, new in replaced.items():
        if source.count(old) != 1:
            raise SystemExit(f"{method.__qualname__} does not have {old!r} once")
        source = source.replace(old, new)
    module = compile(source, inspect.getfile(method), "exec")
    [code] = [constant for constant in module.co_consts if isinstance(constant, CodeType)]
    return code


COUNTING: Sequence[object] = (FeatureCounts.add, gauges.publish)
USUAL: Codes = {function: function.__code__ for function in functions(*TICKETS, *METRICS, *COUNTING)}
NO_TICKETS: Codes = {method: without(method, TICKETS[method]) for method in functions(*TICKETS)}
NO_METRICS: Codes = {
    **{method: without(method, METRICS[method]) for method in functions(*METRICS)},
    **dict.fromkeys(functions(*COUNTING), nothing.__code__),
}
MODES: Mapping[Mode, Codes] = {
    Mode.ALL: USUAL,
    Mode.NO_TICKETS: {**USUAL, **NO_TICKETS},
    Mode.NONE: {**NO_TICKETS, **NO_METRICS},
}


def switch(mode: Mode) -> None:
    """Have the process serve in `mode` from the next request on. No request may be under way.

    The functions get another code: to give classes other methods would undo what the interpreter has learned about the classes.
    """
    for function, code in MODES[mode].items():
        function.__code__ = code


for each in Mode:
    signal.signal(each.signal, lambda number, _: switch(Mode.of(number)))

__all__ = ["Bunriwiki"]
