"""What a user writes against: an `App` collects functions and what they ask for. It does no IO.

    app = App()

    @app.queue("orders", partitions=16, key="customer")
    async def charge(order: Order, message: Message) -> None: ...

    @app.leader
    async def watch_suppliers(leadership: Leadership) -> None: ...

Whatever can be refused is refused here, at import, with one sentence that names the value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from packaging.version import InvalidVersion, Version

from worker.core.names import check_queue_name, dead_letter_queue, partition_names
from worker.parsing import check_kind

Function = TypeVar("Function", bound=Callable[..., Any])
Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
Mode = Literal["assigned", "shared"]
Order = Literal["none", "key", "strict"]

MAX_PARTITIONS = 1000
"""Partition names carry up to three digits, and a plan must stay a document of sensible size."""


SHARED_CONCURRENCY = 10
"""Handlers of one shared queue that run at once on one instance, unless its declaration says otherwise."""


class BadApp(ValueError):
    """A declaration cannot work; the message names the value and the fix."""


@dataclass(frozen=True)
class QueueSpec:
    """One logical queue and its handler, as declared."""

    name: str
    handler: Callable[..., Any]
    partitions: int
    mode: Mode
    key: str | None  # field of the body that decides the partition
    order: Order
    max_attempts: int
    timeout: float  # seconds a handler may take
    concurrency: int  # handlers at once on one instance; 1 unless the queue is shared
    body: type | None  # what the handler wants its first argument parsed into; None: the JSON as it is
    wants_message: bool

    @property
    def physical(self) -> dict[str, bool]:
        """Every physical queue of it, and whether that must keep strict order: intake, partitions, dead letters."""
        partitions = partition_names(self.name, self.partitions) if self.mode == "assigned" else []
        strict = dict.fromkeys(partitions, self.order == "strict")
        return {self.name: False, **strict, dead_letter_queue(self.name): False}


@dataclass(frozen=True)
class LeaderSpec:
    """One leader job, as declared."""

    name: str
    function: Callable[..., Any]
    wants_leadership: bool


class App:
    """A registry of queue handlers and leader jobs.

    `version` is that of your code, as PEP 440 writes it ("2.1.0"): during a rolling upgrade the leader makes way for
    an instance of a newer one. `lifespan` is an async context manager factory: entered before the first handler runs,
    left after the last one has ended, on the same thread and loop as the handlers.
    """

    def __init__(self, *, version: str | None = None, lifespan: Lifespan | None = None) -> None:
        if version is not None and not _is_version(version):
            raise BadApp(f"version={version!r} cannot be ordered: write it as PEP 440 does, for example '2.1.0'")
        self.version = version
        self.lifespan: Lifespan = lifespan or nullcontext
        self.queues: dict[str, QueueSpec] = {}
        self.leader_jobs: dict[str, LeaderSpec] = {}

    def queue(
        self,
        name: str,
        *,
        partitions: int = 1,
        mode: Mode = "assigned",
        key: str | None = None,
        order: Order = "key",
        max_attempts: int = 5,
        timeout: float = 300.0,
        concurrency: int | None = None,
    ) -> Callable[[Function], Function]:
        """Declare the handler of a logical queue.

        `mode="assigned"` gives every partition one owner at a time; `mode="shared"` lets all instances compete for
        one physical queue, with `concurrency` handlers at once on each (10), and needs no leader. `key` names the
        field of the body whose value keeps messages together. `timeout` is in seconds.
        `order="strict"` blocks a partition behind a failing message, where the store can keep order at all.
        """
        check_queue_name(name)
        if name in self.queues:
            raise BadApp(f"queue {name!r} has two handlers: {_name(self.queues[name].handler)} and one more")
        for option, value, values in (("mode", mode, get_args(Mode)), ("order", order, get_args(Order))):
            if value not in values:
                raise BadApp(f"queue {name!r}: {option}={value!r} must be one of {', '.join(map(repr, values))}")
        if not 1 <= partitions <= MAX_PARTITIONS:
            raise BadApp(f"queue {name!r}: partitions={partitions} must be from 1 to {MAX_PARTITIONS}")
        if mode == "shared" and (partitions != 1 or key is not None or order == "strict"):
            raise BadApp(f"queue {name!r}: mode='shared' has no owners, so it takes no partitions, key or strict order")
        if concurrency is not None and (mode != "shared" or concurrency < 1):
            raise BadApp(
                f"queue {name!r}: concurrency={concurrency} must be at least 1, and needs mode='shared': "
                "a partition has one message in hand at a time, so that its order holds"
            )
        if max_attempts < 1:
            raise BadApp(f"queue {name!r}: max_attempts={max_attempts} must be at least 1")
        if not 0 < timeout < float("inf"):
            raise BadApp(f"queue {name!r}: timeout={timeout} must be a positive number of seconds")

        def register(function: Function) -> Function:
            body, wants_message = _handler_signature(name, function)
            self.queues[name] = QueueSpec(
                name=name,
                handler=function,
                partitions=partitions,
                mode=mode,
                key=key,
                order=order,
                max_attempts=max_attempts,
                timeout=timeout,
                concurrency=concurrency or (SHARED_CONCURRENCY if mode == "shared" else 1),
                body=body,
                wants_message=wants_message,
            )
            return function

        return register

    def leader(self, function: Function) -> Function:
        """Declare a job that runs on the leader, and nowhere else, for as long as it leads."""
        name = function.__name__
        if name in self.leader_jobs:
            raise BadApp(f"two leader jobs are called {name!r}")
        wants = len(inspect.signature(function).parameters)
        if wants > 1:
            raise BadApp(f"leader job {name!r} takes {wants} arguments: it gets a Leadership, or nothing")
        self.leader_jobs[name] = LeaderSpec(name, function, wants == 1)
        return function


def _handler_signature(queue: str, function: Callable[..., Any]) -> tuple[type | None, bool]:
    parameters = list(inspect.signature(function).parameters.values())
    positional = all(one.kind not in (one.KEYWORD_ONLY, one.VAR_KEYWORD) for one in parameters)
    if not 1 <= len(parameters) <= 2 or not positional:
        raise BadApp(
            f"handler {_name(function)!r} of queue {queue!r} must take the body, and may take the Message: "
            "one or two positional arguments"
        )
    kind = _hints(function).get(parameters[0].name)
    if kind in (None, Any, dict):
        return None, len(parameters) == 2
    try:
        check_kind(kind)
    except TypeError as exc:
        raise BadApp(f"handler {_name(function)!r} of queue {queue!r}: {exc}") from exc
    return kind, len(parameters) == 2


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    while isinstance(function, partial):
        function = function.func
    return get_type_hints(function if inspect.isroutine(function) else type(function).__call__)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or repr(function)
