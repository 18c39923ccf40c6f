"""The lease: who gets it, what a grant is worth, and what is done to one that cannot be read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest

from providers.body import FORMAT, encode
from providers.conformance.garbled import GARBLED
from providers.conformance.harness import Harness
from providers.conformance.races import RACERS, need_atomic_writes, race
from providers.interface import BadDocument, Bid, Client, Expiry, Grant, Heir, Lease, LeaseView, Misconfigured, Refused

ROLE = "leader"
DURATION = 15.0
"""Seconds: the shortest lease that every store grants."""
_nonces = itertools.count(1)


def nonce() -> str:
    """Return a nonce that no other write of this process has."""
    return f"nonce-{next(_nonces)}"


def bid(session: str, term: int, *, fleet: str = "fleet") -> Bid:
    """Return a bid of an instance named after its session."""
    return Bid(session, f"i-{session}", fleet, term, DURATION, nonce())


def take(lease: Lease, session: str) -> Grant:
    """Look, and claim the next term."""
    return lease.claim(view := lease.observe(), bid(session, view.term + 1))


def _claims(view: LeaseView, bids: Sequence[Bid]) -> Callable[[Client, int], Grant]:
    """Return what each of many racers asks for."""
    return lambda client, number: client.lease(ROLE).claim(view, bids[number])


class LeaseSuite:
    """What `Lease` promises."""

    def test_never_held(self, harness: Harness) -> None:
        """A lease that nobody ever held is a view without a version, of term 0, free."""
        view = harness.client().lease(ROLE).observe()
        assert (view.version, view.term, view.holder, view.garbled) == (None, 0, None, None)
        assert view.free

    def test_expiry_is_announced(self, harness: Harness) -> None:
        """The lease and the driver's capabilities say the same about who decides that it has run out."""
        assert harness.client().lease(ROLE).expiry is harness.driver().capabilities.expiry

    def test_claim(self, harness: Harness) -> None:
        """A claim returns a grant, and every other client sees what was bid."""
        lease = harness.client().lease(ROLE)
        wanted = bid("a", 1)
        grant = lease.claim(lease.observe(), wanted)
        assert (grant.term, grant.session, grant.nonce, grant.renewals) == (1, "a", wanted.nonce, 0)
        view = harness.client().lease(ROLE).observe()
        assert (view.term, view.holder, view.instance, view.fleet) == (1, "a", "i-a", "fleet")
        assert (view.duration, view.nonce, view.version) == (DURATION, wanted.nonce, grant.version)
        assert not view.free
        assert not view.handed
        assert view.garbled is None

    def test_roles_stay_apart(self, harness: Harness) -> None:
        """The leases of two roles know nothing of each other."""
        client = harness.client()
        take(client.lease("leader"), "a")
        assert client.lease("exec-backup").observe().version is None

    def test_claim_race(self, harness: Harness) -> None:
        """Of sixteen sessions that claim one view at once, exactly one is granted, and everybody sees it."""
        need_atomic_writes(harness)
        clients = [harness.client() for _ in range(RACERS)]
        for round_ in range(3):
            view = clients[0].lease(ROLE).observe()
            bids = [bid(f"s{round_}-{n}", view.term + 1) for n in range(RACERS)]
            won, _ = race(clients, _claims(view, bids))
            assert len(won) == 1
            [(winner, grant)] = won.items()
            seen = clients[0].lease(ROLE).observe()
            assert (seen.holder, seen.nonce, seen.term) == (bids[winner].session, bids[winner].nonce, round_ + 1)
            clients[winner].lease(ROLE).resign(grant, nonce())

    def test_claim_of_a_changed_lease(self, harness: Harness) -> None:
        """A claim on a view that is no longer true is refused: somebody claimed, or the holder renewed."""
        lease = harness.client().lease(ROLE)
        empty = lease.observe()
        grant = take(lease, "a")
        with pytest.raises(Refused):
            lease.claim(empty, bid("b", 5))
        if lease.expiry is Expiry.OBSERVER:
            before = lease.observe()
            lease.renew(grant, nonce())
            with pytest.raises(Refused):
                lease.claim(before, bid("b", 5))
        assert lease.observe().holder == "a"

    def test_renew(self, harness: Harness) -> None:
        """Every renewal keeps the term, counts, and shows its nonce."""
        lease = harness.client().lease(ROLE)
        grant = take(lease, "a")
        for count in range(1, 4):
            fresh = nonce()
            grant = lease.renew(grant, fresh)
            assert (grant.term, grant.session, grant.renewals, grant.nonce) == (1, "a", count, fresh)
        view = lease.observe()
        assert (view.term, view.holder) == (1, "a")
        if lease.expiry is Expiry.OBSERVER:
            assert (view.nonce, view.version, view.renewals) == (grant.nonce, grant.version, 3)

    def test_spent_grant(self, harness: Harness) -> None:
        """A grant is spent by its renewal: renewing, resigning or handing over with the old one is refused."""
        lease = harness.client().lease(ROLE)
        if lease.expiry is Expiry.STORE:
            pytest.skip("a renewal changes nothing that could be compared where the store keeps the time itself")
        old = take(lease, "a")
        new = lease.renew(old, nonce())
        with pytest.raises(Refused):
            lease.renew(old, nonce())
        with pytest.raises(Refused):
            lease.resign(old, nonce())
        with pytest.raises(Refused):
            lease.hand_over(old, Heir("b", "token"), nonce())
        assert lease.observe().version == new.version

    def test_resign(self, harness: Harness) -> None:
        """After a resignation the lease is free at once, and its object and term are still there."""
        lease = harness.client().lease(ROLE)
        lease.resign(take(lease, "a"), nonce())
        view = lease.observe()
        assert view.version is not None
        assert (view.term, view.holder, view.free) == (1, None, True)
        assert take(lease, "b").term == 2

    def test_resigned_grant(self, harness: Harness) -> None:
        """A resigned grant neither renews nor resigns again, and cannot blank its successor's lease."""
        lease = harness.client().lease(ROLE)
        grant = take(lease, "a")
        lease.resign(grant, nonce())
        take(lease, "b")
        with pytest.raises(Refused):
            lease.renew(grant, nonce())
        with pytest.raises(Refused):
            lease.resign(grant, nonce())
        assert lease.observe().holder == "b"

    def test_superseded_grant(self, harness: Harness) -> None:
        """A grant that another session has superseded is worth nothing: renew, resign and hand over are refused."""
        lease = harness.client().lease(ROLE)
        stale = take(lease, "a")
        harness.expire(ROLE, DURATION)
        take(harness.client().lease(ROLE), "b")
        with pytest.raises(Refused):
            lease.renew(stale, nonce())
        with pytest.raises(Refused):
            lease.resign(stale, nonce())
        with pytest.raises(Refused):
            lease.hand_over(stale, Heir("c", "token"), nonce())
        view = lease.observe()
        assert (view.holder, view.term) == ("b", 2)

    def test_reclaim(self, harness: Harness) -> None:
        """A session that finds itself as holder may claim again at once, in the next term."""
        lease = harness.client().lease(ROLE)
        take(lease, "a")
        assert take(lease, "a").term == 2
        assert lease.observe().holder == "a"

    def test_hand_over(self, harness: Harness) -> None:
        """A handed lease names the heir in the next term, and the heir's own accept makes it a grant."""
        lease, heirs = harness.client().lease(ROLE), harness.client().lease(ROLE)
        given = take(lease, "a")
        lease.hand_over(given, Heir("b", "token-1"), nonce())
        view = heirs.observe()
        assert (view.holder, view.term, view.handed) == ("b", 2, True)
        with pytest.raises(Refused):
            lease.renew(given, nonce())
        grant = heirs.accept(view, bid("b", view.term), "token-1")
        assert (grant.term, grant.session) == (2, "b")
        view = lease.observe()
        assert (view.holder, view.instance, view.term, view.handed) == ("b", "i-b", 2, False)
        heirs.resign(heirs.renew(grant, nonce()), nonce())

    def test_accept_by_others(self, harness: Harness) -> None:
        """Only the named session accepts, with its token, in the handed term, once, and only what was handed."""
        lease = harness.client().lease(ROLE)
        with pytest.raises(Refused):
            lease.accept(lease.observe(), bid("b", 0), "token-1")
        lease.hand_over(take(lease, "a"), Heir("b", "token-1"), nonce())
        view = lease.observe()
        with pytest.raises(Refused):
            lease.accept(view, bid("c", view.term), "token-1")
        with pytest.raises(Refused):
            lease.accept(view, bid("b", view.term), "token-0")
        with pytest.raises(ValueError, match="term"):
            lease.accept(view, bid("b", view.term + 1), "token-1")
        lease.accept(view, bid("b", view.term), "token-1")
        with pytest.raises(Refused):
            lease.accept(view, bid("b", view.term), "token-1")
        with pytest.raises(Refused):
            lease.accept(lease.observe(), bid("b", view.term), "token-1")

    def test_dead_heir(self, harness: Harness) -> None:
        """A lease that was handed to a session that never accepts is claimed over like any other."""
        lease = harness.client().lease(ROLE)
        lease.hand_over(take(lease, "a"), Heir("dead", "token"), nonce())
        harness.expire(ROLE, DURATION)
        grant = take(lease, "c")
        assert grant.term == 3
        assert not lease.observe().handed

    def test_another_fleet(self, harness: Harness) -> None:
        """A claim on another fleet's lease is refused as a wrong setting that names both fleets."""
        lease = harness.client().lease(ROLE)
        lease.resign(take(lease, "a"), nonce())
        view = lease.observe()
        with pytest.raises(Misconfigured, match=r"fleet.*other"):
            lease.claim(view, bid("b", view.term + 1, fleet="other"))
        assert lease.observe() == view

    def test_term_must_grow(self, harness: Harness) -> None:
        """A claim whose term is not above the term that was seen is a bug, and is not even sent."""
        lease = harness.client().lease(ROLE)
        lease.resign(take(lease, "a"), nonce())
        view = lease.observe()
        for term in (view.term, view.term - 1, -1):
            with pytest.raises(ValueError, match="term"):
                lease.claim(view, bid("b", term))
        assert lease.observe() == view

    @pytest.mark.parametrize("body", GARBLED)
    def test_garbled(self, harness: Harness, body: bytes) -> None:
        """A lease that nobody can understand is a view that says why, and is claimed over by compare-and-swap only."""
        lease = harness.client().lease(ROLE)
        grant = take(lease, "a")
        harness.write_lease(ROLE, body)
        view = lease.observe()
        assert view.version is not None
        assert view.garbled
        assert not view.newer
        assert view.term == 0
        with pytest.raises(Refused):
            lease.renew(grant, nonce())
        claimed = lease.claim(view, bid("b", 9))
        assert claimed.term == 9
        with pytest.raises(Refused):
            lease.claim(view, bid("c", 10))
        assert lease.observe().holder == "b"

    def test_newer_format(self, harness: Harness) -> None:
        """A lease of a newer format says "upgrade", and is never claimed over."""
        lease = harness.client().lease(ROLE)
        take(lease, "a")
        harness.write_lease(ROLE, encode({"format": FORMAT + 1, "term": 7}))
        view = lease.observe()
        assert view.newer
        assert "upgrade" in (view.garbled or "")
        with pytest.raises(BadDocument, match="upgrade"):
            lease.claim(view, bid("b", 99))
        assert lease.observe() == view

    def test_unknown_fields(self, harness: Harness) -> None:
        """Fields that a newer version wrote survive claim, renew, resign, hand over and accept by this one."""
        lease = harness.client().lease(ROLE)
        take(lease, "a")
        harness.write_lease(ROLE, encode({**harness.lease_fields(ROLE), "later": {"x": [1, None]}, "also": "ü"}))

        def kept(step: str) -> LeaseView:
            fields = harness.lease_fields(ROLE)
            assert (fields.get("later"), fields.get("also")) == ({"x": [1, None]}, "ü"), step
            return lease.observe()

        harness.expire(ROLE, DURATION)
        grant = take(lease, "b")
        kept("claim")
        grant = lease.renew(grant, nonce())
        kept("renew")
        lease.hand_over(grant, Heir("c", "token"), nonce())
        view = kept("hand over")
        grant = lease.accept(view, bid("c", view.term), "token")
        kept("accept")
        lease.resign(grant, nonce())
        kept("resign")
