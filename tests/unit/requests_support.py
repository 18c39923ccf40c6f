"""What must come of a request that goes wrong, whatever the driver: one error, one line, and nothing is sent twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from providers.interface import Client, OutcomeUnknown, ProviderError, Unavailable
from tests.proxy import Canned, Fault, FaultProxy


def fails_once(proxy: FaultProxy, kind: type[ProviderError], call: Callable[[], object], told: str = "") -> None:
    """Call, and see exactly this error, in one line that says this, after one request and no other."""
    before = len(proxy.log)
    with pytest.raises(ProviderError) as caught:
        call()
    assert type(caught.value) is kind, caught.value
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(proxy.log) == before + 1


def answered(
    proxy: FaultProxy,
    client: Client,
    answer: Canned,
    for_write: type[ProviderError],
    for_read: type[ProviderError],
    told: str,
) -> None:
    """See what a driver makes of one bad answer to a write, to a read and to a look at the lease."""
    proxy.inject(Fault.ANSWER, answer=answer)
    fails_once(proxy, for_write, lambda: client.documents.create("plan", b"1"), told)
    fails_once(proxy, for_read, lambda: client.documents.read("plan"), told)
    fails_once(proxy, for_read, lambda: client.lease("leader").observe(), told)


def cut_off(proxy: FaultProxy, client: Client, fault: Fault) -> None:
    """See that a cut makes a write unknown and a read unavailable."""
    proxy.inject(fault)
    fails_once(proxy, OutcomeUnknown, lambda: client.documents.create("plan", b"1"))
    fails_once(proxy, Unavailable, lambda: client.documents.read("plan"))
