"""What an app may declare, and what is refused at import with the value named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from worker.app import App, BadApp
from worker.context import Leadership, Message
from worker.core.envelope import BadMessage
from worker.core.names import BadName
from worker.parsing import parse_body


class Order(BaseModel):
    customer: str
    amount: int = 0


@dataclass
class Point:
    x: int


class NoModel:
    """Nothing that JSON could be parsed into."""


async def handle(body: Any) -> None: ...


def declare(function: Callable[..., Any] = handle, **options: Any) -> App:
    app = App()
    app.queue("orders", **options)(function)
    return app


def test_a_declaration_is_kept_as_it_was_made() -> None:
    """The registry holds what was declared, and the function itself comes back undecorated."""
    app = App()

    async def charge(order: Order, message: Message) -> None: ...

    assert (
        app.queue("orders", partitions=16, key="customer", max_attempts=3, timeout=9, order="strict")(charge) is charge
    )
    spec = app.queues["orders"]
    assert (spec.partitions, spec.key, spec.max_attempts, spec.timeout, spec.order) == (16, "customer", 3, 9, "strict")
    assert (spec.handler, spec.body, spec.wants_message, spec.mode) == (charge, Order, True, "assigned")


def test_the_body_is_parsed_into_what_the_handler_asks_for() -> None:
    """A type in the signature is what the body becomes; Any, dict or none leaves the JSON as it is."""

    def point(body: Point) -> None: ...
    def anything(body: Any) -> None: ...
    def plain(body: dict) -> None: ...  # type: ignore[type-arg] # a bare dict means the JSON as it is
    def bare(body): ...  # type: ignore[no-untyped-def] # nothing is said of the body
    def listed(body: list[int]) -> None: ...

    kinds = [declare(function).queues["orders"].body for function in (point, anything, plain, bare, listed)]
    assert kinds == [Point, None, None, None, list[int]]
    assert parse_body(Point, {"x": 3}) == Point(3)
    assert parse_body(list[int], [1, 2]) == [1, 2]
    assert parse_body(None, {"x": 3}) == {"x": 3}


def test_a_body_that_does_not_fit_names_every_error() -> None:
    """A validation error says which fields are wrong and why, and of what type."""
    with pytest.raises(BadMessage, match=r"not a valid Order: customer: .*; amount: .*integer"):
        parse_body(Order, {"amount": "many"})
    with pytest.raises(BadMessage, match=r"not a valid Order: body: "):
        parse_body(Order, 7)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"partitions": 0}, "partitions=0"),
        ({"partitions": 1001}, "partitions=1001"),
        ({"max_attempts": 0}, "max_attempts=0"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"timeout": float("inf")}, "timeout=inf"),
        ({"mode": "shared", "partitions": 2}, "mode='shared'"),
        ({"mode": "shared", "key": "customer"}, "mode='shared'"),
        ({"mode": "shared", "order": "strict"}, "mode='shared'"),
        ({"mode": "exclusive"}, "mode='exclusive'"),
        ({"order": "fifo"}, "order='fifo'"),
    ],
    ids=str,
)
def test_an_impossible_option_is_refused(options: dict[str, Any], said: str) -> None:
    """An option that cannot work is refused at import, with its queue and its value."""
    with pytest.raises(BadApp, match=said) as caught:
        declare(**options)
    assert "'orders'" in str(caught.value)


def test_a_bad_name_is_refused() -> None:
    """A queue name that no cloud accepts is refused at import."""
    with pytest.raises(BadName, match="'Orders'"):
        App().queue("Orders")


def test_a_queue_has_one_handler() -> None:
    """A second handler for a queue is refused, and the first one is named."""
    app = declare()
    with pytest.raises(BadApp, match="'orders' has two handlers: handle"):
        app.queue("orders")(handle)
    with pytest.raises(BadApp, match="two handlers"):
        app.queue("orders")


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda a, b, c: None, lambda a, *, message: None, lambda a, **options: None],
    ids=["none", "three", "keyword only", "any keywords"],
)
def test_a_handler_that_cannot_be_called_is_refused(function: Callable[..., Any]) -> None:
    """A handler is called with one or two positional arguments, and one that cannot be is refused at import."""
    with pytest.raises(BadApp, match="must take the body, and may take the Message"):
        declare(function)


def test_a_body_type_that_nothing_can_be_parsed_into_is_refused() -> None:
    """A class that is no model would fail every single message, so it is refused at import."""

    def handler(body: NoModel) -> None: ...

    with pytest.raises(BadApp, match="NoModel"):
        declare(handler)


def test_leader_jobs_take_a_leadership_or_nothing() -> None:
    """A job is called with a Leadership if it takes one argument, and cannot take more, nor share a name."""
    app = App()

    @app.leader
    async def watch(leadership: Leadership) -> None: ...

    @app.leader
    def sweep() -> None: ...

    assert [(spec.name, spec.wants_leadership) for spec in app.leader_jobs.values()] == [
        ("watch", True),
        ("sweep", False),
    ]
    with pytest.raises(BadApp, match="two leader jobs are called 'sweep'"):
        app.leader(sweep)

    def greedy(one: Any, two: Any) -> None: ...

    with pytest.raises(BadApp, match="'greedy' takes 2 arguments"):
        app.leader(greedy)


def test_a_function_without_a_name_still_has_errors_that_can_be_read() -> None:
    """A partial has no name, and is registered and refused like any other function."""

    def charge(rate: int, body: Any) -> None: ...

    app = App()
    app.queue("orders")(partial(charge, 3))
    with pytest.raises(BadApp, match="two handlers"):
        app.queue("orders")(handle)
    with pytest.raises(BadApp, match="must take the body"):
        app.queue("others")(partial(charge, 3, 4))
