"""Terms never fall: not over a release, an expiry, a process that dies, a lease object that is garbled or deleted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict

import pytest

from providers.conformance.harness import Harness
from providers.conformance.lease import DURATION, ROLE, bid, nonce, take
from providers.interface import Refused

PATIENCE = 30.0
"""Seconds in which a child process must have done its part."""


class TermsSuite:
    """What is left of a term when its holder goes, in whatever way."""

    def test_over_everything(self, harness: Harness) -> None:
        """Through releases, expiries and hand-overs in turn, every grant has a higher term than the one before."""
        lease = harness.client().lease(ROLE)
        terms = []
        for round_ in range(4):
            grant = take(lease, f"a{round_}")
            terms.append(grant.term)
            if round_ % 2:
                harness.expire(ROLE, DURATION)
            else:
                lease.resign(lease.renew(grant, nonce()), nonce())
        assert terms == sorted(set(terms))
        assert lease.observe().term == terms[-1]

    def test_skipped_terms(self, harness: Harness) -> None:
        """A claim may skip terms, and the lease goes on from there."""
        lease = harness.client().lease(ROLE)
        lease.resign(lease.claim(lease.observe(), bid("a", 41)), nonce())
        assert lease.observe().term == 41
        assert take(lease, "b").term == 42

    def test_deleted(self, harness: Harness) -> None:
        """The holder of a deleted lease cannot renew, and it is claimed anew with whatever term the claimant knows."""
        lease = harness.client().lease(ROLE)
        grant = take(lease, "a")
        harness.delete_lease(ROLE)
        view = lease.observe()
        assert (view.version, view.term) == (None, 0)
        with pytest.raises(Refused):
            lease.renew(grant, nonce())
        with pytest.raises(Refused):
            lease.resign(grant, nonce())
        assert lease.observe().version is None
        assert lease.claim(view, bid("b", grant.term + 1)).term == 2
        with pytest.raises(Refused):
            lease.renew(grant, nonce())

    def test_garbled(self, harness: Harness) -> None:
        """Over a garbled lease the term goes on from what the claimant knows, and the old holder stays refused."""
        lease = harness.client().lease(ROLE)
        grant = lease.claim(lease.observe(), bid("a", 7))
        harness.write_lease(ROLE, b"not json")
        assert lease.claim(lease.observe(), bid("b", 8)).term == 8
        with pytest.raises(Refused):
            lease.renew(grant, nonce())
        assert lease.observe().term == 8

    def test_killed_process(self, harness: Harness) -> None:
        """A process killed while it renews leaves a lease of its own term that the next process claims above."""
        url = harness.url()
        if url is None:
            pytest.skip("no other process can reach this store")
        options = json.dumps(asdict(harness.options()))
        lease = harness.client().lease(ROLE)
        for term in range(1, 4):
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "providers.conformance.claimant",
                    url,
                    options,
                    ROLE,
                    f"s{term}",
                    str(harness.total),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                assert child.stdout is not None
                lines = [child.stdout.readline().split() for _ in range(3)]  # the grant, and two renewals
            finally:
                child.send_signal(signal.SIGKILL)
                child.communicate(timeout=PATIENCE)
            assert lines == [["granted", str(term)], ["renewed", str(term)], ["renewed", str(term)]]
            view = lease.observe()
            assert (view.term, view.holder, view.garbled) == (term, f"s{term}", None)
            harness.expire(ROLE, DURATION)
