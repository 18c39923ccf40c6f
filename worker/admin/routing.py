"""Where a message of a logical queue has to go: to the partition of its key, or to the intake that the leader routes.

The plan knows the number of partitions in force; the app's declaration stands in before there is a plan. A producer
that knows neither writes to the intake, which is always right.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from providers.body import decode
from providers.interface import BadDocument, NotFound
from providers.provider import Provider
from worker.app import App
from worker.core.names import BadName, check_queue_name, partition_index, partition_name
from worker.core.plan import Plan, plan_from_fields
from worker.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Route:
    """How to send to one logical queue."""

    queue: str
    partitions: int | None  # None: to the physical queue of the same name (the intake, or a shared queue)
    key_field: str | None = None  # field of the body that gives the key, as the app declares it
    known: bool = True  # somebody has declared this queue, so that it may be created

    def target(self, key: str | None, id: str) -> str:
        """Name the physical queue for a message. Without a key any partition will do: its id spreads it."""
        if self.partitions is None:
            return self.queue
        return partition_name(self.queue, partition_index(id if key is None else key, self.partitions), self.partitions)


async def read_plan(provider: Provider) -> tuple[Plan | None, list[str]]:
    """Return the plan and what is wrong with it; None when there is none, or none that can be read."""
    try:
        document = await provider.documents.read("plan")
    except NotFound:
        return None, []
    assert document is not None  # only a conditional read answers None
    try:
        plan, problems = plan_from_fields(decode(document.body, "plan"))
    except BadDocument as exc:
        return None, [str(exc)]
    return plan, list(problems)


async def route_for(provider: Provider, queue: str, app: App | None) -> Route:
    """Return the way to a logical queue. Raises ConfigurationError for a queue that nobody has declared."""
    try:
        check_queue_name(queue)
    except BadName as exc:
        raise ConfigurationError(str(exc)) from exc
    plan, _ = await read_plan(provider)
    declared = dict(app.queues) if app is not None else {}
    planned = dict(plan.queues) if plan is not None else {}
    spec = declared.get(queue)
    if spec is not None and spec.mode == "shared":
        return Route(queue, None)
    if queue in planned:
        return Route(queue, planned[queue], spec.key if spec else None)
    if spec is not None:
        return Route(queue, spec.partitions, spec.key)
    known = sorted({*declared, *planned})
    if app is None and plan is None:
        return Route(queue, None, known=False)
    near = difflib.get_close_matches(queue, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known queues: {', '.join(known) or 'none'}"
    raise ConfigurationError(f"no queue {queue!r} in the plan or the app; {hint}")
