"""A virtual machine in Azure: its metadata, its Scheduled Events, and the backlog that its scale set is scaled by.

    Terminate, Preempt          GONE    deleted, scaled in, or evicted (Spot: never announced as Terminate)
    Freeze, Reboot, Redeploy    PAUSE   it stands still for seconds, or comes back after minutes
    anything else               PAUSE   a kind of event that is not known yet: a worker that drains and comes back has
                                        lost nothing if the machine goes for good, and one that left would be missed
                                        if it does not

An event is shown to every machine of a placement group, and concerns those that it names. It is announced from minutes
(Preempt: half one) before it happens until it is over; from its start on it says no more when that was to be.

Azure begins to look for events when it is first asked, and may take two minutes for that first answer; it stops when it
has not been asked for a day. Until then `notices` is Unavailable, which is nobody's mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time  # noqa: TID251 - the time that Azure Monitor wants with a figure; nothing is decided by it
from typing import TYPE_CHECKING, Any, Final

from providers.azure.credentials import Identity as Credential
from providers.azure.monitor import Monitor
from providers.host import End, Identity, Notice
from providers.http_date import unix_seconds
from providers.interface import Misconfigured, Unavailable
from providers.metadata import MetadataServer, read_json, read_text, shown
from providers.options import PLAIN

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

COMPUTE = "/metadata/instance/compute?api-version=2021-02-01"
EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
HEADERS: Final = {"Metadata": "true"}

ENDS: Final[Mapping[str, End]] = {
    "terminate": End.GONE,
    "preempt": End.GONE,
    "freeze": End.PAUSE,
    "reboot": End.PAUSE,
    "redeploy": End.PAUSE,
}
"""What an event of this type is to a worker, whoever (`EventSource`) has asked for it."""

OVER = frozenset({"completed", "canceled", "cancelled"})
"""Event statuses that announce nothing. One that has started does: it may be seen for the first time only then."""

PLACE = re.compile(
    r"(?P<provider>/subscriptions/[\w-]+/resourceGroups/[\w.()-]+/providers/Microsoft\.Compute)"
    r"(?:/virtualMachineScaleSets/(?P<set>[\w.-]+))?/virtualMachines/[\w.-]+",
    re.IGNORECASE,
)
"""A machine's resource id: below its scale set where Azure numbers the machines (Uniform), beside it where not."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the metadata service says of this virtual machine."""

    name: str
    zone: str | None
    scale_set: str | None
    resource_id: str | None
    location: str | None

    def scaled(self) -> str:
        """Return the resource id of what is scaled: the scale set, else the machine. Raises Misconfigured."""
        place = PLACE.fullmatch(self.resource_id or "")
        if place is None:
            raise Misconfigured(f"this machine's resource id is not one of a virtual machine: {self.resource_id!r}")
        scale_set = place["set"] or self.scale_set
        if scale_set is None:
            return place[0]
        return f"{place['provider']}/virtualMachineScaleSets/{scale_set}"

    def monitor_url(self) -> str:
        """Return where Azure Monitor takes figures of this region. Raises Misconfigured."""
        region = (self.location or "").replace(" ", "").lower()
        if not re.fullmatch(r"[a-z0-9-]+", region):
            raise Misconfigured(f"this machine's location is not a region of Azure: {self.location!r}")
        return f"https://{region}.monitoring.azure.com"


class AzureHost:
    """`providers.host.Host` for a virtual machine in Azure. One thread at a time.

    `credential` signs in to Azure Monitor, and `monitor_url` is where that is, if not where the machine's region has
    it. Neither is used, and no identity asked for, before a backlog is published. `wall` tells the time of day.
    """

    grace: float | None = None
    """Azure keeps no machine waiting longer than it has said, so nothing is repeated."""

    def __init__(
        self,
        server: MetadataServer,
        *,
        credential: TokenCredential | None = None,
        monitor_url: str | None = None,
        wall: Callable[[], float] = time,
    ) -> None:
        self._server = server
        self._credential, self._monitor_url, self._wall = credential, monitor_url, wall
        self._machine: Machine | None = None  # none of it changes while the machine runs
        self._monitor: Monitor | None = None
        self._announced: dict[str, float] = {}  # by event id: the time that it was announced for

    def identity(self) -> Identity:
        """See `Host.identity`."""
        machine = self._asked()
        return Identity(machine=machine.name, zone=machine.zone, group=machine.scale_set)

    def notices(self) -> list[Notice]:
        """See `Host.notices`. What has started comes first, then what has no time that can be read."""
        found = [(event, self._notice(event)) for event in self._events()]
        self._announced = {notice.id: notice.at for _, notice in found if notice.at is not None}
        found.sort(key=lambda one: (_word(one[0], "EventStatus") != "started", one[1].at or 0.0))
        return [notice for _, notice in found]

    def hold(self, notice: Notice) -> None:
        """Do nothing: Azure gives no more time than the scale set's terminate notification asks for."""

    def acknowledge(self, notice: Notice) -> None:
        """Let the event start, if it still waits for that, and for this machine alone.

        Azure would start it for all the machines that it names, and the others may not be ready: such an event is left
        to its time. So is one without an id of its own. Of one that has started there is nothing left to ask.
        """
        for event in self._events():
            started = _word(event, "EventStatus") == "started"
            if _text(event, "EventId") == notice.id and len(event["Resources"]) == 1 and not started:
                self._server.post_json(EVENTS, {"StartRequests": [{"EventId": notice.id}]}, HEADERS)

    def ready(self) -> None:
        """Do nothing: Azure asks by itself, at `/healthz/azure`."""

    def protect(self, busy: bool) -> None:
        """Do nothing: a machine cannot protect itself from Azure's scaling.

        Only Azure Resource Manager can set an instance's protection policy, with a role that no worker should have.
        What keeps work safe there is the terminate notification, which announces a scale-in five to fifteen minutes
        before it happens, and the `SkipUpgrade` of the health endpoint, which lets a rolling upgrade pass a busy
        machine by.
        """

    def publish_backlog(self, fleet: str, messages: int) -> None:
        """Publish metric `Backlog` (namespace `CloudWorker`, dimension `Fleet`) of the scale set, else of the machine.

        The machine's identity needs the role Monitoring Metrics Publisher on it.
        """
        machine = self._asked()
        resource = machine.scaled()
        if self._monitor is None:
            credential = self._credential or Credential("Azure Monitor", PLAIN)
            self._monitor = Monitor(self._monitor_url or machine.monitor_url(), credential)
        self._monitor.publish(resource, fleet, messages, self._wall())

    def close(self) -> None:
        """Close both connections."""
        self._server.close()
        if self._monitor is not None:
            self._monitor.close()

    def _asked(self) -> Machine:
        if self._machine is None:
            what = f"GET {self._server.url}{COMPUTE}"
            body = self._server.get(COMPUTE, HEADERS)
            if body is None:
                raise Misconfigured(f"{what}: there is none: this is no virtual machine in Azure; correct WORKER_HOST")
            told = read_json(body, what)
            name, zone, scale_set, resource_id, location = (
                read_text(told, field, what) for field in ("name", "zone", "vmScaleSetName", "resourceId", "location")
            )
            if name is None:
                raise Misconfigured(f"{what}: the machine has no name: this is no virtual machine in Azure")
            self._machine = Machine(name, zone, scale_set, resource_id, location)
        return self._machine

    def _events(self) -> list[dict[str, Any]]:
        """Return the events that are announced for this machine, as Azure tells them."""
        mine = self._asked().name.casefold()
        what = f"GET {self._server.url}{EVENTS}"
        body = self._server.get(EVENTS, HEADERS)
        if body is None:
            raise Unavailable(f"{what}: there is none: Azure has not begun to look for events of this machine")
        told = read_json(body, what)
        events = told.get("Events")
        if not isinstance(events, list):
            raise Unavailable(f"{what}: the answer has no list of events: {shown(repr(told))}")
        return [event for event in events if _names(event, mine) and _word(event, "EventStatus") not in OVER]

    def _notice(self, event: Mapping[str, Any]) -> Notice:
        """Return what an event announces, and when: as it said before it started, if it says so no longer."""
        id, kind = _id_of(event), _text(event, "EventType") or "an event of no type"
        at = unix_seconds(_text(event, "NotBefore"))
        return Notice(id, ENDS.get(kind.casefold(), End.PAUSE), kind, self._announced.get(id) if at is None else at)


def _names(event: object, machine: str) -> bool:
    resources = event.get("Resources") if isinstance(event, dict) else None
    if not isinstance(resources, list):
        return False
    return any(isinstance(name, str) and name.casefold() == machine for name in resources)


def _id_of(event: Mapping[str, Any]) -> str:
    return _text(event, "EventId") or f"{_text(event, 'EventType')} {_text(event, 'NotBefore')}"


def _word(event: Mapping[str, Any], name: str) -> str:
    return _text(event, name).casefold()


def _text(event: Mapping[str, Any], name: str) -> str:
    """Return a field of an event that concerns this machine, whatever else is wrong with it; "" for what is no text."""
    value = event.get(name)
    return shown(value) if isinstance(value, str) else ""
