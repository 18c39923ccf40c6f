"""Documents: compare-and-swap, versions, listing, keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from providers.conformance.harness import Harness
from providers.conformance.races import RACERS, need_atomic_writes, race
from providers.interface import Client, Documents, NotFound, Refused, Stamp, Version

ROUNDS = 5
"""Races in one test: one alone may come out right by luck."""

ODD_KEYS = (
    "members/i-0abc~9f8e7d",
    "members/host.example~9f8e7d",
    "state/100%",
    "state/%2Fetc%2Fpasswd",
    "state/a b+c&d=e;f,g",
    'state/it\'s "quoted" #1?',
    "state/über-straße",
    "state/顧客",
    "state/UPPER and lower",
    "state/upper AND LOWER",
    "slots/nightly/2026-03-29T01:00:00Z",
)
"""Keys that a store or its URL encoding might confuse, fold or refuse."""


def keys(documents: Documents, prefix: str) -> list[str]:
    """Return all keys under a prefix, page by page."""
    found: list[str] = []
    after: str | None = None
    while True:
        page = documents.list(prefix, after=after)
        found += [stamp.key for stamp in page.stamps]
        if page.after is None:
            return found
        assert after is None or page.after > after, "a listing must advance"
        after = page.after


def _creates(key: str) -> Callable[[Client, int], Stamp]:
    """Return what each of many racers asks for: to create one key."""
    return lambda client, number: client.documents.create(key, b"%d" % number)


def _replaces(stamp: Stamp, round_: int) -> Callable[[Client, int], Stamp]:
    """Return what each of many racers asks for: to write over one version."""
    return lambda client, number: client.documents.replace(stamp, b"%d %d" % (round_, number))


class DocumentsSuite:
    """What `Documents` promises."""

    def test_absent(self, harness: Harness) -> None:
        """A document that was never written is NotFound."""
        with pytest.raises(NotFound):
            harness.client().documents.read("plan")

    def test_round_trip(self, harness: Harness) -> None:
        """What one client writes, another reads: the same bytes, under the version that the write returned."""
        stamp = harness.client().documents.create("plan", b"\x00\xff {}\r\n")
        found = harness.client().documents.read("plan")
        assert found is not None
        assert (found.stamp, found.body) == (stamp, b"\x00\xff {}\r\n")

    def test_large_body(self, harness: Harness) -> None:
        """A plan of ten thousand partitions, a megabyte, is read as it was written."""
        body = bytes(range(256)) * 4096
        documents = harness.client().documents
        documents.create("plan", body)
        found = documents.read("plan")
        assert found is not None
        assert found.body == body

    def test_unless(self, harness: Harness) -> None:
        """A read that names the current version is answered None, and any other version with the document."""
        documents = harness.client().documents
        first = documents.create("plan", b"1")
        assert documents.read("plan", unless=first.version) is None
        second = documents.replace(first, b"2")
        found = documents.read("plan", unless=first.version)
        assert found is not None
        assert found.stamp == second

    def test_create_once(self, harness: Harness) -> None:
        """Creating a document that exists is refused and changes nothing."""
        documents = harness.client().documents
        stamp = documents.create("plan", b"1")
        with pytest.raises(Refused):
            documents.create("plan", b"2")
        found = documents.read("plan")
        assert found is not None
        assert (found.stamp, found.body) == (stamp, b"1")

    def test_stale_replace(self, harness: Harness) -> None:
        """Writing over a version that is not the current one is refused and changes nothing."""
        documents = harness.client().documents
        first = documents.create("plan", b"1")
        second = documents.replace(first, b"2")
        with pytest.raises(Refused):
            documents.replace(first, b"3")
        found = documents.read("plan")
        assert found is not None
        assert (found.stamp, found.body) == (second, b"2")

    def test_replace_absent(self, harness: Harness) -> None:
        """Writing over a document that is gone, or never was, is refused and creates nothing."""
        documents = harness.client().documents
        stamp = documents.create("plan", b"1")
        documents.delete(stamp)
        for old in (stamp, Stamp("other", stamp.version)):
            with pytest.raises(Refused):
                documents.replace(old, b"2")
            with pytest.raises(NotFound):
                documents.read(old.key)

    def test_foreign_version(self, harness: Harness) -> None:
        """One document's version opens no other document, even one with an equal body."""
        documents = harness.client().documents
        one, two = documents.create("state/one", b"1"), documents.create("state/two", b"1")
        two = documents.replace(two, b"2")
        with pytest.raises(Refused):
            documents.replace(Stamp("state/two", one.version), b"3")
        assert documents.read("state/two", unless=two.version) is None

    def test_garbage_version(self, harness: Harness) -> None:
        """A version that no store ever gave is refused like any other that is not the current one."""
        documents = harness.client().documents
        documents.create("plan", b"1")
        with pytest.raises(Refused):
            documents.replace(Stamp("plan", Version("no such version")), b"2")

    def test_stale_delete(self, harness: Harness) -> None:
        """Deleting names a version too: a stale one, and a second delete, are refused."""
        documents = harness.client().documents
        first = documents.create("plan", b"1")
        second = documents.replace(first, b"2")
        with pytest.raises(Refused):
            documents.delete(first)
        documents.delete(second)
        with pytest.raises(Refused):
            documents.delete(second)
        with pytest.raises(NotFound):
            documents.read("plan")

    def test_nonce_makes_versions_differ(self, harness: Harness) -> None:
        """Bodies that differ in nothing but their nonce are different versions, back and forth (ABA)."""
        documents = harness.client().documents
        seen = [documents.create("plan", b'{"term":1,"nonce":"0"}')]
        for nonce in range(1, 6):
            seen.append(documents.replace(seen[-1], b'{"term":1,"nonce":"%d"}' % nonce))
        assert len({stamp.version for stamp in seen}) == len(seen)
        for stale in seen[:-1]:
            with pytest.raises(Refused):
                documents.replace(stale, b"{}")

    def test_aba(self, harness: Harness) -> None:
        """Where versions are not hashes of bodies, an equal body written again is another version."""
        documents = harness.client().documents
        first = documents.create("plan", b"A")
        third = documents.replace(documents.replace(first, b"B"), b"A")
        if third.version == first.version:
            pytest.skip("this store's versions are hashes: every writer's nonce keeps its bodies apart")
        with pytest.raises(Refused):
            documents.replace(first, b"C")

    def test_recreated(self, harness: Harness) -> None:
        """A deleted and created document does not accept a writer who read the first one."""
        documents = harness.client().documents
        first = documents.create("plan", b'{"nonce":"1"}')
        documents.delete(first)
        documents.create("plan", b'{"nonce":"2"}')
        with pytest.raises(Refused):
            documents.replace(first, b'{"nonce":"3"}')

    def test_create_race(self, harness: Harness) -> None:
        """Of sixteen clients that create one document at once, exactly one does, and its body is the one there."""
        need_atomic_writes(harness)
        clients = [harness.client() for _ in range(RACERS)]
        for round_ in range(ROUNDS):
            key = f"slots/race/{round_}"
            won, _ = race(clients, _creates(key))
            assert len(won) == 1
            found = clients[0].documents.read(key)
            assert found is not None
            [(winner, stamp)] = won.items()
            assert (found.stamp, found.body) == (stamp, b"%d" % winner)

    def test_replace_race(self, harness: Harness) -> None:
        """Of sixteen clients that write over one version at once, exactly one does, and its body is the one there."""
        need_atomic_writes(harness)
        clients = [harness.client() for _ in range(RACERS)]
        stamp = clients[0].documents.create("plan", b"start")
        for round_ in range(ROUNDS):
            won, _ = race(clients, _replaces(stamp, round_))
            assert len(won) == 1
            [(winner, stamp)] = won.items()
            found = clients[0].documents.read("plan")
            assert found is not None
            assert (found.stamp, found.body) == (stamp, b"%d %d" % (round_, winner))

    def test_delete_race(self, harness: Harness) -> None:
        """Of sixteen clients that delete one version at once, exactly one does."""
        need_atomic_writes(harness)
        if not harness.conditional_delete:
            pytest.skip("this server compares and deletes in two steps")
        clients = [harness.client() for _ in range(RACERS)]
        stamp = clients[0].documents.create("plan", b"1")
        won, _ = race(clients, lambda client, _: client.documents.delete(stamp))
        assert len(won) == 1

    def test_list(self, harness: Harness) -> None:
        """A listing shows the keys under its prefix, all and only those, in order, with their current versions."""
        documents = harness.client().documents
        wanted = {f"beats/i-{n}~s": documents.create(f"beats/i-{n}~s", b"{}") for n in range(5)}
        documents.create("beat", b"{}")
        documents.create("beats.txt", b"{}")
        documents.create("members/i-1~s", b"{}")
        wanted["beats/i-3~s"] = documents.replace(wanted["beats/i-3~s"], b'{"n":1}')
        page = documents.list("beats/")
        assert list(page.stamps) == [wanted[key] for key in sorted(wanted)]
        assert page.after is None
        assert keys(documents, "nothing/") == []

    def test_list_pages(self, harness: Harness) -> None:
        """A listing of more than one page shows every key exactly once, in order."""
        documents = harness.client().documents
        wanted = [f"beats/i-{n:04d}~s" for n in range(harness.documents_per_listing)]
        for key in wanted:
            documents.create(key, b"{}")
        assert keys(documents, "beats/") == wanted
        assert keys(documents, "beats/i-0001") == ["beats/i-0001~s"]

    def test_list_while_deleted(self, harness: Harness) -> None:
        """A listing goes on after a key that has been deleted between two pages."""
        documents = harness.client().documents
        stamps = [documents.create(f"beats/{n:04d}", b"{}") for n in range(harness.documents_per_listing)]
        first = documents.list("beats/")
        seen = [stamp.key for stamp in first.stamps]
        if first.after is not None:
            documents.delete(first.stamps[-1])
            seen += [stamp.key for stamp in documents.list("beats/", after=first.after).stamps]
        assert seen == [stamp.key for stamp in stamps[: len(seen)]]

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_odd_key(self, harness: Harness, key: str) -> None:
        """A key with characters that URLs, shells or file systems treat specially is written, listed and read back."""
        documents = harness.client().documents
        stamp = documents.create(key, b"mine")
        assert stamp.key == key
        found = documents.read(key)
        assert found is not None
        assert found.body == b"mine"
        assert keys(documents, key.rpartition("/")[0] + "/") == [key]
        documents.delete(documents.replace(stamp, b"still mine"))

    def test_keys_stay_apart(self, harness: Harness) -> None:
        """Keys that differ in case or escaping only are different documents, and one may be a prefix of another."""
        documents = harness.client().documents
        wanted = sorted(("state/a", "state/A", "state/a%2Fb", "state/a/b", "state/ab"))
        for key in wanted:
            documents.create(key, key.encode())
        assert keys(documents, "state/") == wanted
        for key in wanted:
            found = documents.read(key)
            assert found is not None
            assert found.body == key.encode()
