"""The no-op service (`noop.py`) without metrics, drift and tickets: what `metrics.py` compares it with.

Its methods are compiled from the service's own source without the statements that count, so nothing else differs, and not even
a call that does nothing is left. A statement that the source no longer has ends the start.

bentoml serve benchmarks.unmetered:Bunriwiki
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from types import CodeType, FunctionType

from benchmarks.noop import Bunriwiki
from bunriwiki.artifacts.features import FeatureCounts
from bunriwiki.batching.batcher import Batcher
from bunriwiki.protocols.handlers.dataplane import Model
from bunriwiki.protocols.rest.endpoints import Endpoints
from bunriwiki.protocols.rest.server import RestServer
from bunriwiki.telemetry.metrics import gauges

ANNOTATIONS = "from __future__ import annotations\n"  # as every module has it
# What is replaced in each method. `pass` compiles to nothing.
LEFT_OUT: Mapping[object, Mapping[str, str]] = {
    RestServer.__call__: {
        "metrics = self._metrics[route]": "pass",
        "metrics.running += 1": "pass",
        "metrics.latest = time.time()": "pass",
        'timing = RequestTiming(metrics, scope["method"])': "timing = time.monotonic_ns()",  # for the log
        "metrics.running -= 1": "pass",
        "if not timing.ended:": "if False:",
    },
    RestServer._answer: {
        "timing.end(response.status)": "pass",
        "timing.began": "timing",
    },
    Model.infer: {
        "if (timing := CURRENT.get()) is not None and timing.answer is None:": "if False:",
        "self.metrics.answered(answers[0].version, len(inputs), (answered - begun) / 1e9, served.waited)": "pass",
    },
    Model._call_runner: {"self.metrics.called(len(batch), answers.work)": "pass"},
    Batcher.submit: {
        "began = time.perf_counter()": "pass",
        "Results([await waiting.answer for waiting in group])": "[await waiting.answer for waiting in group]",
        "results.waited = group[-1].taken - began if group else 0.0": "pass",
    },
    Batcher._take: {"now = time.perf_counter()": "now = 1.0"},
    Endpoints._served: {
        "if ticket := self._feedback.ticket(given, served, request.request_id):": "if False:",
    },
}


def without(method: FunctionType, replaced: Mapping[str, str]) -> FunctionType:
    """`method` with these parts of its source replaced, each of which it has once."""
    source = ANNOTATIONS + textwrap.dedent(inspect.getsource(method))
    for old, new in replaced.items():
        if source.count(old) != 1:
            raise SystemExit(f"{method.__qualname__} does not have {old!r} once")
        source = source.replace(old, new)
    module = compile(source, inspect.getfile(method), "exec")
    [code] = [constant for constant in module.co_consts if isinstance(constant, CodeType)]
    return FunctionType(code, method.__globals__, method.__name__, method.__defaults__)


def leave_out() -> None:
    """Replace the methods, before a worker creates what it serves with."""
    for owner in (RestServer, Model, Batcher, Endpoints):
        for name, method in list(vars(owner).items()):
            if isinstance(method, FunctionType) and method in LEFT_OUT:
                setattr(owner, name, without(method, LEFT_OUT[method]))
    FeatureCounts.add = lambda *_: None  # type: ignore[method-assign]
    gauges.PUBLISH_SECONDS = 1e9


leave_out()

__all__ = ["Bunriwiki"]
