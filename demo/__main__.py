"""New versions go live under load, a broken one does not, and one is rolled back: a few minutes in one screen.

python -m demo

Ends with 0 when everything happened as it should, else with 1 and a sentence.
"""

from __future__ import annotations

import logging
import re
import signal
import sys
import time
import warnings
from datetime import UTC, datetime

from rich.console import Console

from bunriwiki.artifacts.manifest import MODELS
from demo.screen import Screen
from demo.stage import CLIENTS, WORKERS, Stage, loaded, staged
from demo.status import figures

STEPS = 7
BREATH = 5.0  # seconds to look at what happened
AT_MOST = 180.0  # seconds until a published version serves or is rejected, on a busy machine
REJECTION = re.compile(r"^quality: macro F1 \d+\.\d")


class NotAsItShouldBeError(Exception):
    """A sentence that says what happened instead."""


def main() -> None:
    warnings.simplefilter("ignore")  # what a library says would be written across the screen
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also where a shell had it ignored
        signal.signal(number, signal.default_int_handler)
    console = Console()
    screen = Screen(console, STEPS)
    try:
        with screen:
            play(screen)
    except KeyboardInterrupt:
        sys.exit("The demo was ended; everything is tidied up.")
    except Exception as error:  # whatever it is, it is said in a sentence
        sentence = str(error).partition("\n")[0] or type(error).__name__
        sys.exit("\n".join([*screen.last_log, f"The demo did not go as it should: {sentence}"]))
    console.print("Everything happened as it should, and is tidied up.")


def play(screen: Screen) -> None:
    """The show. Raises NotAsItShouldBeError."""
    screen.step("Everything starts", "")
    with staged(lambda what: screen.hint(f"Starting: {what}")) as stage:
        screen.stage = stage
        try:
            took = watch_start(stage)
            screen.note(f"v1 of each model was judged and serves on {WORKERS} workers each, {took:.0f} s after the start")
            with loaded(stage):
                act(screen, stage)
            screen.step("Was anybody disturbed?", f"{CLIENTS} clients asked all the time, of every model")
            check_load(screen, stage)
            time.sleep(BREATH)
            screen.step("The end", "Everything is tidied up: the processes, and the temporary folder")
        except BaseException:
            screen.keep_log()
            raise


def act(screen: Screen, stage: Stage) -> None:
    """What happens under load."""
    screen.step("A data scientist publishes kcbert v2 and yolo v2 to S3", "S3 sends a message to SQS; the sidecar looks")
    time.sleep(BREATH)
    published = datetime.now(UTC)
    for model in ("kcbert", "yolo"):
        stage.publish(model, "v2")
    for model in ("kcbert", "yolo"):
        watch_swap(screen, stage, model, "v2", published=published, trigger="sqs")
    screen.step("And registers sentiment 2 in MLflow", "The alias champion moves; MLflow calls the sidecar's webhook")
    published = datetime.now(UTC)
    watch_swap(screen, stage, "sentiment", stage.register("second"), published=published, trigger="webhook")
    screen.step("A broken version: kcbert v3, whose classes are mixed up", "It loads and answers; only its answers are wrong")
    watch_rejection(screen, stage, "kcbert", "v3")
    screen.step("An operator rolls kcbert back", "POST /models/kcbert/rollback on the sidecar: v1 is still on disk")
    watch_rollback(screen, stage, "kcbert", "v2", "v1")


def watch_start(stage: Stage) -> float:
    """Wait until every worker serves what was published first; the seconds it took."""
    began = time.monotonic()
    try:
        stage.server.wait_until_ready(AT_MOST)
        for model in MODELS:
            stage.server.wait_until_it_serves(model, "1" if model == "sentiment" else "v1", WORKERS, AT_MOST)
    except AssertionError:
        found = "; ".join(f"{model}: {status(stage, model)}" for model in MODELS)
        raise NotAsItShouldBeError(f"the first versions do not serve on all workers: {found}") from None
    return time.monotonic() - began


def watch_swap(screen: Screen, stage: Stage, model: str, version: str, *, published: datetime, trigger: str) -> None:
    """Wait until every worker answers with `version`, because `trigger` told of it."""
    try:
        stage.server.wait_until_it_serves(model, version, WORKERS, AT_MOST)
    except AssertionError:
        raise NotAsItShouldBeError(f"{model} {version} does not serve on all workers: {status(stage, model)}") from None
    [activate] = [event for event in stage.sidecar.events("activated", model) if event.version == version]
    if (activate.by, activate.workers) != (trigger, WORKERS):
        raise NotAsItShouldBeError(f"{model} {version} serves by {activate.by} with {activate.workers} workers")
    took = (activate.at - published).total_seconds()
    screen.note(f"{model} {version} serves on both workers, {took:.1f} s after it was published")
    time.sleep(BREATH)


def watch_rejection(screen: Screen, stage: Stage, model: str, version: str) -> None:
    """Wait until `version` is rejected for what it is worth; what serves stays."""
    before = stage.sidecar.serving(model)
    stage.publish(model, version, turn=1)
    try:
        found = stage.sidecar.wait_for(model, "rejected", version, AT_MOST)
    except AssertionError:
        raise NotAsItShouldBeError(f"{model} {version} is not rejected: {status(stage, model)}") from None
    if not REJECTION.match(found.reason or ""):
        raise NotAsItShouldBeError(f"{model} {version} is rejected for another reason: {found.reason}")
    stage.server.wait_until_it_serves(model, str(before), WORKERS)
    screen.note(f"{model} {version} is rejected and in quarantine; {before} serves on")
    time.sleep(BREATH)


def watch_rollback(screen: Screen, stage: Stage, model: str, left: str, to: str) -> None:
    """Go back from `left` to `to`, and see that no look brings `left` back."""
    done = stage.roll_back(model)
    if (done["from"], done["to"], done["workers"]) != (left, to, WORKERS):
        raise NotAsItShouldBeError(f"the rollback of {model} went elsewhere: {done}")
    stage.server.wait_until_it_serves(model, to, WORKERS)
    stage.sidecar.look(model)
    time.sleep(BREATH)
    if (now := stage.sidecar.serving(model)) != to:
        raise NotAsItShouldBeError(f"{model} serves {now} again, which the rollback had left")
    screen.note(f"{model} is back at {to} on both workers within {done['seconds']:.1f} s; another look leaves {left} alone")


def check_load(screen: Screen, stage: Stage) -> None:
    """No request failed."""
    found = figures(stage.load)
    if not found:
        raise NotAsItShouldBeError("the clients got no answers in the last seconds")
    if found.failed:
        counts = {what: number for probe in stage.load for what, number in probe.counts.items() if what != "200"}
        raise NotAsItShouldBeError(f"{found.failed} requests failed: {counts}")
    screen.note(f"{found.answered} requests over {len(MODELS)} models were answered, none failed")


def status(stage: Stage, model: str) -> str:
    """What the sidecar says of a model."""
    found = stage.sidecar.state(model)
    return f"{found.version} {found.status}: {found.reason}" if found else "the sidecar says nothing of it"


if __name__ == "__main__":
    main()
