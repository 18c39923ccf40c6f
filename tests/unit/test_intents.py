"""The control document: orders hit exactly whom they name, and one bad entry never costs the others."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.intents import Control, Drain, Force, Intent, Order, Pause, Repartition, StepDown, parse

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def intent(order: Order, id: str = "a", at: datetime = NOW) -> Intent:
    return Intent(id, order, at, "ann@host")


names = st.text(alphabet="abcdef-0123456789", min_size=1, max_size=8)
numbers = st.integers(min_value=1, max_value=10**9)
orders = st.one_of(
    st.builds(StepDown, numbers),
    st.builds(Drain, names, names),
    st.builds(Pause, names),
    st.builds(Force, names, numbers),
    st.builds(Repartition, names, numbers, numbers),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(orders, max_size=6))
def test_what_is_written_is_read(given_orders: list[Order]) -> None:
    """A control document must read back as it was written."""
    control = Control()
    for index, order in enumerate(given_orders):
        control = control.add(intent(order, f"id-{index}", NOW + timedelta(seconds=index)))
    read = parse(json.loads(json.dumps(control.to_fields())))
    assert read == control
    assert not read.problems


@given(json_values, st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_garbage_never_raises_and_never_costs_a_good_intent(garbage: Any, document: dict[str, Any]) -> None:
    """Whatever stands beside a good intent, parsing must not raise and the good one must be obeyed."""
    entries = {"bad": garbage, "good": intent(Pause("orders")).to_fields()}
    control = parse({**document, "intents": entries})
    assert "orders" in control.paused
    parse({**document, "intents": garbage})


def test_orders_hit_only_whom_they_name() -> None:
    """A step-down must not reach another term, nor a drain another session of the same instance."""
    control = Control().add(intent(StepDown(7), "a")).add(intent(Drain("s1", "i-3"), "b"))
    assert control.step_down(7)
    assert not control.step_down(6)
    assert not control.step_down(8)
    assert control.draining("s1")
    assert not control.draining("s2")
    assert not control.draining("i-3")


def test_unknown_kinds_and_fields_survive_a_rewrite() -> None:
    """What a newer version has written must stand after an older one has edited the document."""
    newer = {"kind": "freeze", "until": "dawn"}
    paused = {**intent(Pause("orders")).to_fields(), "reason": "stock-taking"}
    control = parse({"format": 1, "nonce": "x", "intents": {"n": newer, "p": paused}, "colour": "blue"})
    assert not control.problems
    written = control.add(intent(StepDown(3), "s")).prune(NOW + timedelta(days=3)).to_fields()
    assert written["intents"]["n"] == newer
    assert written["intents"]["p"]["reason"] == "stock-taking"
    assert written["colour"] == "blue"
    assert "nonce" not in written


@pytest.mark.parametrize(
    "entry, says",
    [
        (3, "int, not an object"),
        ({"kind": None}, "kind is None"),
        ({"kind": "step-down", "term": True, "at": NOW.isoformat()}, "'term' is True"),
        ({"kind": "step-down", "term": "7", "at": NOW.isoformat()}, "'term' is '7'"),
        ({"kind": "pause", "queue": "", "at": NOW.isoformat()}, "'queue' is ''"),
        ({"kind": "pause", "queue": "orders", "at": "yesterday"}, "'at' is 'yesterday'"),
        ({"kind": "pause", "queue": "orders", "at": "2026-03-01T12:00:00"}, "'at' is"),
        ({"kind": "pause", "queue": "orders", "at": "0001-01-01T00:00:00+23:59"}, "'at' is"),
        ({"kind": "pause", "queue": "orders", "at": "9999-12-31T23:59:59-23:59"}, "'at' is"),
        ({"kind": "repartition", "queue": "orders", "from": 2, "to": 0, "at": NOW.isoformat()}, "to 0"),
    ],
)
def test_a_damaged_intent_is_reported_and_left_out(entry: Any, says: str) -> None:
    """A damaged intent must be named with its fault, obeyed by nobody, and pruned in the end."""
    control = parse({"intents": {"x": entry}})
    assert len(control.problems) == 1
    assert says in control.problems[0]
    assert not control.intents
    assert "x" in control.to_fields()["intents"]
    assert "x" not in control.prune(NOW).to_fields()["intents"]


def test_prune_keeps_pauses_and_young_orders() -> None:
    """Orders older than a day must go, but a pause must stay until it is resumed."""
    old = NOW - timedelta(hours=25)
    control = (
        Control().add(intent(Pause("a"), "1", old)).add(intent(StepDown(1), "2", old)).add(intent(StepDown(2), "3"))
    )
    assert [item.id for item in control.prune(NOW).intents] == ["1", "3"]
    assert control.prune(NOW).resume("a").paused == frozenset()


def test_edits_that_change_nothing_return_the_same_control() -> None:
    """Pausing twice, resuming what runs and removing what is not there must not cause a write."""
    control = Control().add(intent(Pause("a")))
    assert control.add(intent(Pause("a"), "other")) is control
    assert control.resume("b") is control
    assert control.remove("nobody") is control
    assert control.prune(NOW) is control


def test_queries() -> None:
    """Every kind of order must be found by the query that its obeyer asks."""
    control = Control().add(intent(Force("orders-07", 12), "a")).add(intent(Repartition("orders", 4, 8), "b"))
    assert control.forced == {("orders-07", 12)}
    assert control.repartitions == (Repartition("orders", 4, 8),)
    again = control.add(intent(Repartition("orders", 8, 4), "c"))
    assert again.repartitions == (Repartition("orders", 8, 4),)  # the older one would undo it for ever
    assert control.to_fields()["intents"]["b"]["from"] == 4
