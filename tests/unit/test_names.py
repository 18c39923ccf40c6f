"""Names that every store takes, and the published map from keys to partitions."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.names import (
    FIFO,
    BadName,
    check_instance_name,
    check_queue_name,
    check_role_name,
    dead_letter_queue,
    member_id,
    partition_index,
    partition_name,
    partition_names,
)
from worker.core.plan import Plan


@pytest.mark.parametrize(
    "name", ["abc", "orders", "a-b-c", "orders2", "v2-orders", "x" * 50, "a1b", "orders.fifo", "x" * 50 + ".fifo"]
)
def test_a_good_queue_name_is_taken(name: str) -> None:
    """Lower-case letters, digits and single hyphens, 3 to 50 of them, make a name."""
    assert check_queue_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "ab", "x" * 51, "Orders", "1abc", "-abc", "abc-", "a--b", "a_b", "a.b", "a b", "ordérs", "abc\n"),
        *("orders-7", "orders-07", "orders-dlq", "a-dlq"),
        *("orders-7.fifo", "orders-dlq.fifo", "ab.fifo", ".fifo", "orders.fifo.fifo", "orders.fifo-x", "orders.FIFO"),
    ],
)
def test_a_bad_queue_name_is_refused(name: str) -> None:
    """What some cloud refuses, or what reads like a partition or a dead-letter queue, is refused by its name."""
    with pytest.raises(BadName, match=re.escape(repr(name))):
        check_queue_name(name)


@given(st.from_regex(r"[a-z0-9-]{1,55}", fullmatch=True), st.integers(1, 1000))
def test_every_physical_queue_is_one_that_azure_takes(name: str, partitions: int) -> None:
    """Whatever name is taken, its partitions and its dead letters have names that Azure and SQS take, all different."""
    try:
        check_queue_name(name)
    except BadName:
        return
    names = [*partition_names(name, partitions), dead_letter_queue(name), name]
    for physical in (names[0], *names[-3:]):
        assert re.fullmatch(r"[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9])){2,62}", physical)
    assert len(set(names)) == partitions + 2


def _legal(name: str) -> bool:
    try:
        return check_queue_name(name) == name
    except BadName:
        return False


NAMES = st.builds(
    lambda first, rest, fifo: first + rest.rstrip("-") + fifo,
    st.sampled_from("abz"),
    st.from_regex(r"[a-z0-9-]{2,49}", fullmatch=True),
    st.sampled_from(["", FIFO]),
).filter(_legal)


@given(NAMES, st.integers(1, 1200))
def test_every_partition_leads_back_to_its_queue(name: str, partitions: int) -> None:
    """A plan finds the queue of each of its partitions by name, and of nothing else, `.fifo` or not."""
    plan = Plan(1, 1, "l~1", queues={name: partitions}, partitions={})
    names = partition_names(name, partitions)
    assert all(plan.queue_of(physical) == name for physical in (names[0], names[partitions // 2], names[-1]))
    other = name.removesuffix(FIFO) if name.endswith(FIFO) else name + FIFO
    strangers = [name, dead_letter_queue(name), partition_name(name, partitions, partitions + 1)]
    strangers += [partition_name(other, 0, partitions), names[0].replace("-0", "-", 1)]
    assert [plan.queue_of(stranger) for stranger in strangers] == [None] * 5


@given(NAMES, NAMES, st.integers(1, 1200), st.integers(1, 1200))
def test_no_two_queues_share_a_physical_one(one: str, two: str, first: int, second: int) -> None:
    """Intakes, partitions and dead-letter queues of two queues never have a name in common."""
    if one == two:
        return
    mine, others = (
        {name, dead_letter_queue(name), *partition_names(name, n)} for name, n in ((one, first), (two, second))
    )
    assert not mine & others


@given(NAMES, st.integers(1, 1200))
def test_every_physical_queue_of_a_fifo_queue_is_one(name: str, partitions: int) -> None:
    """SQS keeps the order of a queue whose name ends in `.fifo`: all physical queues of such a one do, no others."""
    physical = [name, dead_letter_queue(name), *partition_names(name, partitions)]
    assert {one.endswith(FIFO) for one in physical} == {name.endswith(FIFO)}
    assert all(len(one) <= 80 for one in physical)


@given(st.integers(1, 1000))
def test_partition_names_sort_as_numbers_do(partitions: int) -> None:
    """All names of a queue have one width, so they sort by number, and each is what `partition_name` says."""
    names = partition_names("orders", partitions)
    assert names == sorted(names)
    assert names == [partition_name("orders", index, partitions) for index in range(partitions)]


def test_partitions_are_named_as_published() -> None:
    """Sixteen partitions count from 00 to 15, and more than a hundred have three digits."""
    assert partition_name("orders", 7, 16) == "orders-07"
    assert partition_name("orders", 7, 101) == "orders-007"
    assert partition_name("orders", 0, 1) == "orders-00"


@pytest.mark.parametrize("key, index", [("ATL", 6), ("", 4), ("Ünïcode", 9), ("c-17", 7)])
def test_the_key_hash_is_published_and_never_changes(key: str, index: int) -> None:
    """These keys of sixteen partitions are in these partitions for ever: producers in other languages rely on it."""
    assert partition_index(key, 16) == int(hashlib.sha256(key.encode()).hexdigest()[:16], 16) % 16 == index


@given(st.text(st.characters(codec="utf-8")), st.integers(1, 1000))
def test_every_key_has_a_partition(key: str, partitions: int) -> None:
    """A key's partition is one of those there are."""
    assert 0 <= partition_index(key, partitions) < partitions


@pytest.mark.parametrize("name", ["i-0abc", "vm_1", "A.b-c", "0", "x" * 64])
def test_good_instance_and_role_names_are_taken(name: str) -> None:
    """What clouds call their machines names an instance, and a lease of `worker exec`."""
    assert check_instance_name(name) == check_role_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "-a", ".a", "a/b", "a~b", "a b", "é", "a\n"])
def test_bad_instance_and_role_names_are_refused(name: str) -> None:
    """A name that would break a document's key is refused by its value."""
    for check in (check_instance_name, check_role_name):
        with pytest.raises(BadName, match=re.escape(repr(name))):
            check(name)


def test_the_fleets_own_lease_is_reserved() -> None:
    """`worker exec leader` would compete with the fleet's leader, and is refused."""
    with pytest.raises(BadName, match="'leader' is the fleet's own"):
        check_role_name("leader")


def test_a_member_id_splits_again() -> None:
    """An instance's name never holds the sign that joins it with its session."""
    assert member_id("i-1", "s").split("~") == ["i-1", "s"]
