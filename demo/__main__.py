"""New versions go live under load, a broken version does not, and a rollback: a few minutes in a terminal screen.

python -m demo

Ends with 0 when everything happened as expected, else with 1 and a sentence.
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
from demo.deployment import CLIENTS, WORKERS, Deployment, deployed, under_load
from demo.screen import Screen
from demo.status import load_metrics

STEPS = 7
PAUSE = 5.0  # seconds to look at what happened
TIMEOUT = 180.0  # seconds until a published version serves or is rejected, on a busy machine
REJECTION = re.compile(r"^quality: macro F1 \d+\.\d")


class DemoError(Exception):
    """Something else happened than expected. The message is a sentence that says what."""


def main() -> None:
    warnings.simplefilter("ignore")  # libraries would write across the screen
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also where a shell had it ignored
        signal.signal(number, signal.default_int_handler)
    console = Console()
    screen = Screen(console, STEPS)
    try:
        with screen:
            run(screen)
    except KeyboardInterrupt:
        sys.exit("The demo was interrupted; everything is cleaned up.")
    except Exception as error:  # every error ends the demo with a sentence
        sentence = str(error).partition("\n")[0] or type(error).__name__
        sys.exit("\n".join([*screen.last_log, f"The demo failed: {sentence}"]))
    console.print("Everything happened as expected, and is cleaned up.")


def run(screen: Screen) -> None:
    """The whole demo. Raises DemoError."""
    screen.step("Everything starts", "")
    with deployed(lambda what: screen.hint(f"Starting: {what}")) as deployment:
        screen.deployment = deployment
        try:
            took = expect_start(deployment)
            screen.note(f"v1 of each model was evaluated and serves on {WORKERS} workers each, {took:.0f} s after the start")
            with under_load(deployment):
                change_versions(screen, deployment)
            screen.step("Did any request fail?", f"{CLIENTS} clients sent requests to every model all the time")
            expect_no_failures(screen, deployment)
            time.sleep(PAUSE)
            screen.step("The end", "The processes are ended, and the temporary folder is deleted")
        except BaseException:
            screen.keep_log()
            raise


def change_versions(screen: Screen, deployment: Deployment) -> None:
    """What happens under load."""
    screen.step("A data scientist publishes kcbert v2 and yolo v2 to S3", "S3 sends a message to SQS; the sidecar syncs")
    time.sleep(PAUSE)
    published = datetime.now(UTC)
    for model in ("kcbert", "yolo"):
        deployment.publish(model, "v2")
    for model in ("kcbert", "yolo"):
        expect_promotion(screen, deployment, model, "v2", published=published, trigger="sqs")
    screen.step("And registers sentiment 2 in MLflow", "The alias champion moves; MLflow calls the sidecar's webhook")
    published = datetime.now(UTC)
    expect_promotion(screen, deployment, "sentiment", deployment.register("second"), published=published, trigger="webhook")
    screen.step("A broken version: kcbert v3, whose classes are mixed up", "It loads and answers; only its answers are wrong")
    expect_rejection(screen, deployment, "kcbert", "v3")
    screen.step("An operator rolls kcbert back", "POST /models/kcbert/rollback on the sidecar: v1 is still on disk")
    expect_rollback(screen, deployment, "kcbert", "v2", "v1")


def expect_start(deployment: Deployment) -> float:
    """Wait until every worker serves what was published first; the seconds it took."""
    began = time.monotonic()
    try:
        deployment.server.wait_until_ready(TIMEOUT)
        for model in MODELS:
            deployment.server.wait_until_serving(model, "1" if model == "sentiment" else "v1", WORKERS, TIMEOUT)
    except AssertionError:
        found = "; ".join(f"{model}: {status(deployment, model)}" for model in MODELS)
        raise DemoError(f"the first versions do not serve on all workers: {found}") from None
    return time.monotonic() - began


def expect_promotion(
    screen: Screen, deployment: Deployment, model: str, version: str, *, published: datetime, trigger: str
) -> None:
    """Wait until every worker answers with `version`; the sync must have been requested by `trigger`."""
    try:
        deployment.server.wait_until_serving(model, version, WORKERS, TIMEOUT)
    except AssertionError:
        raise DemoError(f"{model} {version} does not serve on all workers: {status(deployment, model)}") from None
    [activated] = [event for event in deployment.sidecar.events("activated", model) if event.version == version]
    if (activated.by, activated.workers) != (trigger, WORKERS):
        raise DemoError(f"{model} {version} was promoted by {activated.by} with {activated.workers} workers")
    took = (activated.at - published).total_seconds()
    screen.note(f"{model} {version} serves on both workers, {took:.1f} s after it was published")
    time.sleep(PAUSE)


def expect_rejection(screen: Screen, deployment: Deployment, model: str, version: str) -> None:
    """Wait until `version` is rejected for its quality; the serving version must stay."""
    before = deployment.sidecar.serving(model)
    deployment.publish(model, version, rotation=1)
    try:
        found = deployment.sidecar.wait_for_status(model, "rejected", version, TIMEOUT)
    except AssertionError:
        raise DemoError(f"{model} {version} is not rejected: {status(deployment, model)}") from None
    if not REJECTION.match(found.reason or ""):
        raise DemoError(f"{model} {version} is rejected for another reason: {found.reason}")
    deployment.server.wait_until_serving(model, str(before), WORKERS)
    screen.note(f"{model} {version} is rejected and in quarantine; {before} still serves")
    time.sleep(PAUSE)


def expect_rollback(screen: Screen, deployment: Deployment, model: str, from_version: str, to_version: str) -> None:
    """Roll back, and check that another sync does not promote `from_version` again."""
    done = deployment.roll_back(model)
    if (done["from"], done["to"], done["workers"]) != (from_version, to_version, WORKERS):
        raise DemoError(f"the rollback of {model} ended otherwise: {done}")
    deployment.server.wait_until_serving(model, to_version, WORKERS)
    deployment.sidecar.sync(model)
    time.sleep(PAUSE)
    if (now := deployment.sidecar.serving(model)) != to_version:
        raise DemoError(f"{model} serves {now} again after the rollback")
    screen.note(
        f"{model} is back at {to_version} on both workers within {done['seconds']:.1f} s; another sync does not promote "
        f"{from_version} again"
    )


def expect_no_failures(screen: Screen, deployment: Deployment) -> None:
    """No request may have failed."""
    metrics = load_metrics(deployment.load)
    if not metrics:
        raise DemoError("the clients got no answers in the last seconds")
    if metrics.failed:
        counts = {result: number for probe in deployment.load for result, number in probe.counts.items() if result != "200"}
        raise DemoError(f"{metrics.failed} requests failed: {counts}")
    screen.note(f"{metrics.answered} requests to {len(MODELS)} models were answered, none failed")


def status(deployment: Deployment, model: str) -> str:
    """The sidecar's last report of a model."""
    found = deployment.sidecar.state(model)
    return f"{found.version} {found.status}: {found.reason}" if found else "the sidecar has not reported it yet"


if __name__ == "__main__":
    main()
