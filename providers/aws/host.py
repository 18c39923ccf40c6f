"""An EC2 instance, in an Auto Scaling group or alone: its metadata announce the end, its group's hooks wait for it.

    autoscaling/target-lifecycle-state      Terminated: scaled in, replaced, found unhealthy     GONE
                                            Warmed:Stopped and the like: put back into the pool  PAUSE
    spot/instance-action                    the capacity is wanted back, in two minutes          GONE, at its time
    events/recommendations/rebalance        it may soon be wanted back                           RISK

A Spot interruption is not asked for its leave and cannot be held. Maintenance (`events/maintenance/scheduled`) is left
out: it is announced days before, when nobody should drain yet; at its time the machine is shut down in order, and the
group replaces it.

The group, its hooks and the metric are of the region that the machine is in, whichever region its store is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from providers.aws.clients import Clients
from providers.aws.imds import Imds
from providers.aws.scaling import LAUNCHING, TERMINATING, Hook, Scaling
from providers.host import End, Identity, Notice
from providers.interface import Misconfigured, OutcomeUnknown, ProviderError
from providers.metadata import MetadataServer, read_json, read_text
from providers.options import PLAIN, StoreOptions

LIFECYCLE = "autoscaling/target-lifecycle-state"
SPOT = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"

TARGETS: Mapping[str, End] = {
    "Terminated": End.GONE,
    "Warmed:Terminated": End.GONE,
    "Warmed:Stopped": End.PAUSE,
    "Warmed:Hibernated": End.PAUSE,
    "Warmed:Running": End.PAUSE,
}
"""Where the group is taking the machine, and what that means. Others (InService, Standby, Detached) end nothing."""

TOTAL = 3.0
"""Seconds for a connection to Auto Scaling or CloudWatch, and again for an answer."""

SHARE, SHORTEST, LONGEST = 3, 5.0, 60.0
"""A heartbeat is due after a third of a hook's timeout: two may get lost. But in seconds no sooner and no later."""


class AwsHost:
    """`host.Host` for one EC2 instance. `options` tell the region where the metadata do not."""

    def __init__(self, server: MetadataServer, options: StoreOptions = PLAIN, *, total: float = TOTAL) -> None:
        self._imds, self._options, self._total = Imds(server), options, total
        self._clients: Clients | None = None
        self._scaling: Scaling | None = None
        self._group: str | None = None
        self._protected: bool | None = None  # None: nobody knows
        self._grace: float | None = None

    @property
    def grace(self) -> float | None:
        """See `host.Host.grace`; as of the last `identity` or `hold`."""
        return self._grace

    def identity(self) -> Identity:
        """See `host.Host.identity`."""
        machine = self._known().machine
        zone = self._imds.line("placement/availability-zone")
        group = self._member_of()
        if group is not None:
            self._ends(group)
        return Identity(machine, zone, group)

    def notices(self) -> list[Notice]:
        """See `host.Host.notices`. What cannot be asked hides nothing of what can."""
        found: list[Notice] = []
        failed: ProviderError | None = None
        for ask in (self._lifecycle, self._spot, self._rebalance):  # under way; in two minutes; some day
            try:
                notice = ask()
            except ProviderError as exc:
                failed = failed or exc
            else:
                found += [notice] if notice else []
        if failed is not None and not found:
            raise failed
        return found

    def hold(self, notice: Notice) -> None:
        """See `host.Host.hold`."""
        if notice.cause == LIFECYCLE:
            self._for_hooks(self._ends, Scaling.heartbeat)

    def acknowledge(self, notice: Notice) -> None:
        """See `host.Host.acknowledge`."""
        if notice.cause == LIFECYCLE:
            self._for_hooks(self._ends, Scaling.complete)

    def ready(self) -> None:
        """See `host.Host.ready`. Completes the hooks that keep the machine waiting for that."""
        self._for_hooks(lambda group: self._known().hooks(group, LAUNCHING), Scaling.complete)

    def protect(self, busy: bool) -> None:
        """See `host.Host.protect`. Sends nothing where nothing changes; a machine without a group needs nothing."""
        if self._protected is None or self._group is None:
            self._member_of()
        if self._group is None or self._protected is busy:
            return
        try:
            self._known().protect(self._group, busy)
        except OutcomeUnknown:
            self._protected = None
            raise
        self._protected = busy

    def publish_backlog(self, fleet: str, messages: int) -> None:
        """See `host.Host.publish_backlog`."""
        self._known().publish_backlog(fleet, messages)

    def close(self) -> None:
        """See `host.Host.close`."""
        self._imds.close()
        if self._clients is not None:
            self._clients.close()

    # --- what is announced ---

    def _lifecycle(self) -> Notice | None:
        target = self._imds.line(LIFECYCLE)
        end = TARGETS.get(target or "")
        return Notice(f"{LIFECYCLE}={target}", end, LIFECYCLE, None) if end else None

    def _spot(self) -> Notice | None:
        body = self._imds.get(SPOT)
        if body is None:
            return None
        told = read_json(body, SPOT)
        action, time = read_text(told, "action", SPOT), read_text(told, "time", SPOT)
        if action is None:
            raise Misconfigured(f"{SPOT}: the answer names no action: correct the metadata service's URL")
        return Notice(f"{SPOT}={action}@{time}", End.GONE, SPOT, _unix_seconds(time))

    def _rebalance(self) -> Notice | None:
        body = self._imds.get(REBALANCE)
        if body is None:
            return None
        time = read_text(read_json(body, REBALANCE), "noticeTime", REBALANCE)  # of the notice, not of an end
        return Notice(f"{REBALANCE}@{time}", End.RISK, REBALANCE, None)

    # --- the group ---

    def _for_hooks(self, hooks: Callable[[str], list[Hook]], tell: Callable[[Scaling, str, Hook], None]) -> None:
        """Tell these hooks of the group. They are asked for anew: one may have been added since the machine started."""
        group = self._group or self._member_of()
        if group is not None:
            for hook in hooks(group):
                tell(self._known(), group, hook)

    def _member_of(self) -> str | None:
        """Ask for the group, and whether it protects the machine."""
        found = self._known().membership()
        self._group, self._protected = (found.group, found.protected) if found else (None, None)
        if found is None:
            self._grace = None  # nothing waits for a machine without a group
        return self._group

    def _ends(self, group: str) -> list[Hook]:
        """Ask for the hooks before an end, and so for the grace."""
        hooks = self._known().hooks(group, TERMINATING)
        shortest = min((hook.timeout for hook in hooks), default=None)
        self._grace = None if shortest is None else min(max(shortest / SHARE, SHORTEST), LONGEST)
        return hooks

    def _known(self) -> Scaling:
        """Return the way to the services: not before the metadata have said for which machine, and where."""
        if self._scaling is None:
            machine = self._imds.needed("instance-id")
            region = self._imds.line("placement/region") or self._options.aws_region
            self._clients = Clients(replace(self._options, endpoint_url=None, aws_region=region), self._total)
            self._scaling = Scaling(self._clients, machine)
        return self._scaling


def _unix_seconds(time: str | None) -> float | None:
    """Return the time of an interruption; None where it cannot be read: the interruption counts all the same."""
    try:
        told = datetime.fromisoformat(time or "")
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None
