"""moto's server, with a clock that costs nothing, and what it lacks: run as a program, with `moto_server`'s arguments.

moto looks through all messages of a queue at every request, and asks for the time twice for each, which its own
function takes ten microseconds to tell. With 700 messages in a queue a batch of ten was sent in 205 ms, and is in 11;
the demo's 5,366 messages did not get through in time. Its answers are the same.

moto has lifecycle hooks, but no lifecycle actions. Here a machine is taken to wait for each of its group's hooks for as
long as it is in the group, and leaves it when all that are of its end have been completed.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any

from moto.core import utils
from moto.core.responses import ActionResult, BaseResponse, EmptyResult

_told_by_moto = utils.unix_time
_completed: dict[str, set[str]] = {}  # by machine: names of hooks


def unix_time(dt: datetime | None = None) -> float:
    """Return the seconds of the epoch, as moto's own function does."""
    return time.time() if dt is None else _told_by_moto(dt)


def record_heartbeat(response: Any) -> ActionResult:
    """Answer RecordLifecycleActionHeartbeat."""
    _waited_for(response)
    return EmptyResult()


def complete_action(response: Any) -> ActionResult:
    """Answer CompleteLifecycleAction."""
    machine, hook, hooks = _waited_for(response)
    _completed.setdefault(machine, set()).add(hook)
    last = {name for name, transition in hooks.items() if transition.endswith("_TERMINATING")}
    if hook in last and _completed[machine] >= last:
        response.autoscaling_backend.terminate_instance(machine, should_decrement=True)
    return EmptyResult()


def _waited_for(response: Any) -> tuple[str, str, dict[str, str]]:
    """Return the machine, the hook, and the transition of each of its group's hooks; refuse what is not waited for."""
    group, hook, machine = (
        response._get_param(name) for name in ("AutoScalingGroupName", "LifecycleHookName", "InstanceId")
    )
    backend = response.autoscaling_backend
    hooks = {one.name: one.lifecycle_transition for one in backend.describe_lifecycle_hooks(group)}
    inside = {one.instance.id for one in backend.autoscaling_groups[group].instance_states}
    from moto.autoscaling.exceptions import ValidationError  # not before somebody needs the service: it takes seconds

    if machine not in inside or hook not in hooks.keys() - _completed.get(machine, set()):
        raise ValidationError(f"No active Lifecycle Action found with instance ID {machine}")
    return machine, hook, hooks


def prepare() -> None:
    """Put in place what is ours, before any service of moto's is imported."""
    utils.unix_time = unix_time  # the services take it by its name
    # of every service, as Auto Scaling's own class is not imported yet: only that one is ever asked
    BaseResponse.record_lifecycle_action_heartbeat = record_heartbeat  # type: ignore[attr-defined]
    BaseResponse.complete_lifecycle_action = complete_action  # type: ignore[attr-defined]


def serve(arguments: list[str]) -> None:
    """Serve until ended."""
    from moto.server import main  # not before `prepare`

    main(arguments)


if __name__ == "__main__":
    prepare()
    serve(sys.argv[1:])
