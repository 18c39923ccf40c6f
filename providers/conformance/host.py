"""The host: a machine that nobody takes away answers everything, and does nothing."""

from __future__ import annotations

import pytest

from providers.conformance.harness import Harness
from providers.interface import Notice


class HostSuite:
    """What `Host` promises of every driver: it answers within the time of a request, and asks for nothing."""

    def test_identity(self, harness: Harness) -> None:
        """The machine has a name, or says that it knows none."""
        identity = harness.client().host.identity()
        assert identity is None or identity.instance

    def test_notice(self, harness: Harness) -> None:
        """No end is announced to a machine that goes on, and every announcement has an id and a kind."""
        notice = harness.client().host.notice()
        assert notice is None or (notice.id and notice.kind)

    @pytest.mark.parametrize("protected", [True, False])
    def test_protect(self, harness: Harness, protected: bool) -> None:
        """Protection may be asked for and given up, twice in a row too."""
        host = harness.client().host
        host.protect(protected)
        host.protect(protected)

    def test_acknowledge(self, harness: Harness) -> None:
        """Acknowledging a notice that is over is no error: the machine is going either way."""
        harness.client().host.acknowledge(Notice(id="over", kind="Terminate"))

    def test_backlog(self, harness: Harness) -> None:
        """A backlog is taken, none included."""
        host = harness.client().host
        host.publish_backlog(0)
        host.publish_backlog(10_000)
