"""Wait until a fleet runs what `terraform apply` has asked for: an instance refresh on AWS, a rolling upgrade on Azure.

    mark=$(python3 scripts/rollout.py mark aws GROUP)       before the apply: which replacement is the latest one?
    python3 scripts/rollout.py wait aws GROUP --mark=$mark  after it: 0 when the machines are new, 1 when they are not

GROUP is the stack's output of that name; empty before the first apply. Both clouds start the replacement themselves
when the machines' template changes, and are asked by their own command lines, `aws` and `az`, already signed in.
Nobody's clock is compared with another's: a replacement is new when it is not the one of the mark.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RUNNING = {"Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress", "RollingForward"}
DONE = {"Successful", "Completed"}


@dataclass(frozen=True)
class Rollout:
    """The latest replacement of a group's machines; all empty when there has been none."""

    mark: str = ""
    state: str = ""
    words: str = ""


def ask(*command: str) -> Any:
    """Return what a cloud's command line answers, as JSON; CalledProcessError when it fails."""
    done = subprocess.run([*command, "--output", "json"], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout or "null")


def aws(group: str) -> tuple[Rollout, bool]:
    """Return an Auto Scaling group's latest instance refresh: one has begun when an apply that needs it has ended."""
    answer = ask("aws", "autoscaling", "describe-instance-refreshes", "--auto-scaling-group-name", group)
    if not answer["InstanceRefreshes"]:
        return Rollout(), True
    latest = answer["InstanceRefreshes"][0]
    words = f"{latest.get('PercentageComplete', 0)} %, {latest.get('StatusReason', 'no remarks')}"
    return Rollout(latest["InstanceRefreshId"], latest["Status"], words), True


def azure(group: str) -> tuple[Rollout, bool]:
    """Return a scale set's latest rolling upgrade, which starts a while after the apply, and whether none is needed."""
    named = ("--ids", group)
    try:
        latest = ask("az", "vmss", "rolling-upgrade", "get-latest", *named)
    except subprocess.CalledProcessError:  # az says "not found" when there has never been one
        ask("az", "vmss", "show", *named)  # the set itself must be there
        latest = None
    up_to_date = ask("az", "vmss", "list-instances", *named, "--query", "[].latestModelApplied")
    if not latest:
        return Rollout(), all(up_to_date)
    status, progress = latest["runningStatus"], latest.get("progress") or {}
    words = ", ".join(f"{name}: {value}" for name, value in progress.items())
    return Rollout(status["startTime"], status["code"], words), all(up_to_date)


CLOUDS: dict[str, Callable[[str], tuple[Rollout, bool]]] = {"aws": aws, "azure": azure}


def wait(cloud: str, group: str, mark: str, *, timeout: float, pause: float) -> str | None:
    """Wait for the end of a replacement other than the mark, if one is needed; return what went wrong, or None."""
    deadline = time.monotonic() + timeout
    said = None
    while True:
        latest, up_to_date = CLOUDS[cloud](group)
        if latest != said:
            print(f"{latest.state or 'none'} {latest.words}".strip(), flush=True)
            said = latest
        new = latest.mark != mark
        if new and latest.state not in RUNNING | DONE:
            return f"the replacement has ended as {latest.state}: {latest.words}"
        if up_to_date and latest.state not in RUNNING:
            return None
        if time.monotonic() >= deadline:
            return f"not done after {timeout:g} s: {latest.state or 'nothing has started'}"
        time.sleep(pause)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["mark", "wait"])
    parser.add_argument("cloud", choices=sorted(CLOUDS))
    parser.add_argument("group", help="the stack's output `group`")
    parser.add_argument("--mark", default="", help="what `mark` has said before the apply")
    parser.add_argument("--timeout", type=float, default=5400, help="seconds to wait at most")
    parser.add_argument("--pause", type=float, default=15, help="seconds between two questions")
    options = parser.parse_args()
    if options.action == "mark":
        print(CLOUDS[options.cloud](options.group)[0].mark if options.group else "")
        return 0
    wrong = wait(options.cloud, options.group, options.mark, timeout=options.timeout, pause=options.pause)
    if wrong:
        print(f"::error::{wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
