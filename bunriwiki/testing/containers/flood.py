"""As many texts as the edge answers, by `wrk`, whose clients cost little: 400 requests per second and more on two cores."""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bunriwiki.testing.calls import Call

STOP_SECONDS = 90.0  # for the requests in flight
TIMEOUT_SECONDS = 60
FOREVER = "24h"
# Each thread of wrk has a state of Lua of its own; `done` runs in another one when all have ended.
SCRIPT = """
local bodies = {%s}
local threads, at = {}, 0
statuses, seconds = {}, {}
function setup(thread) table.insert(threads, thread) end
function request()
  at = at %% #bodies + 1
  return wrk.format("POST", bodies[at][1], {["Content-Type"] = bodies[at][2]}, bodies[at][3])
end
function response(status)
  local now = os.time()
  statuses[status] = (statuses[status] or 0) + 1
  seconds[now] = (seconds[now] or 0) + 1
end
function done(summary)
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do print("status " .. status .. " " .. count) end
    for second, count in pairs(thread:get("seconds")) do print("second " .. second .. " " .. count) end
  end
  for _, name in ipairs({"connect", "read", "write", "timeout"}) do print("error " .. name .. " " .. summary.errors[name]) end
end
"""


@dataclass
class Flood:
    """What came of the requests, complete when the load has ended: their number by status or error, and by second."""

    counts: Counter[str] = field(default_factory=Counter)
    by_second: Counter[int] = field(default_factory=Counter)

    @property
    def failures(self) -> dict[str, int]:
        return {name: count for name, count in self.counts.items() if name != "200"}

    def summary(self) -> dict[str, object]:
        """The rate over all whole seconds, and the rates of the slowest one and of the median one."""
        first, last = min(self.by_second), max(self.by_second)
        rates = [self.by_second[second] for second in range(first + 1, last)]
        return {
            "requests": self.counts.total(),
            "seconds": last - first,
            "per_second": round(statistics.mean(rates)),
            "median_second": statistics.median(rates),
            "slowest_second": min(rates),
        }


@contextmanager
def flood(url: str, calls: list[Call], folder: Path, connections: int = 16) -> Iterator[Flood]:
    """`calls` in turn over connections that are kept, as long as the block lasts. Its script is written to `folder`."""
    script = folder / "flood.lua"
    script.write_text(
        SCRIPT % ", ".join(f"{{{_lua(call.path)}, {_lua(call.media_type)}, {_lua(call.body)}}}" for call in calls)
    )
    if (program := shutil.which("wrk")) is None:
        raise FileNotFoundError("wrk is not installed. On Debian: apt-get install --no-install-recommends wrk")
    command = [program, "--threads=1", f"--connections={connections}", f"--duration={FOREVER}"]
    command += [f"--timeout={TIMEOUT_SECONDS}s", f"--script={script}", url]
    found = Flood()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield found
        finally:
            process.send_signal(signal.SIGINT)  # on which it prints what it has counted
            output, _ = process.communicate(timeout=STOP_SECONDS)
    for line in output.splitlines():
        match line.split():
            case ["status", status, count]:
                found.counts[status] += int(count)
            case ["second", second, count]:
                found.by_second[int(second)] += int(count)
            case ["error", name, count] if int(count):
                found.counts[name] += int(count)


def _lua(text: str | bytes) -> str:
    """The literal of Lua for a text in UTF-8 without line breaks: JSON's, with nothing that means something else to Lua."""
    decoded = text.decode() if isinstance(text, bytes) else text
    return json.dumps(decoded, ensure_ascii=False)
