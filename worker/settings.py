"""Every setting: an environment variable `WORKER_…`, its default, and what it must look like.

`load_settings` is the one way in. It finds all problems at once, one line each, with the variable, its value and the
fix, and refuses variables that it does not know: a misspelt name must not silently leave a default in force.
A `.env` file is not read: what a process runs with should be visible in its environment and nowhere else, and a
file that happens to lie in the working directory must not choose a fleet's store. Containers have `--env-file`.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from providers.http_url import HIDDEN, names_a_server, without_secrets
from providers.interface import LONGEST_LEASE
from worker.core.endings import Endings
from worker.core.names import BadName, check_instance_name
from worker.core.roster import LONGEST_PATIENCE, patience
from worker.core.timings import ImpossibleTimings, Timings, leader_timings, member_timings
from worker.errors import ConfigurationError
from worker.machine_settings import MachineSettings
from worker.store_settings import PREFIX, Seconds, seconds, setting

SET_BY_US = frozenset({"WORKER_TERM"})
"""Variables that `worker exec` sets for its child; a worker command started from there must not stumble over them."""

OF_TESTS = "WORKER_TEST_"
"""So begins what the tests are told (an emulator, an image); workers that they start must not stumble over it."""

SECRETS = frozenset({"admin_token", "azure_connection_string"})
"""Settings whose value is never shown."""

CLOUD_LEASE = 15.0
LOCAL_LEASE = 3.0
DRAIN_LEASES = 4
"""A drain may take so many leases unless a setting says otherwise: 60 s in a cloud, 12 s on one machine."""


class Settings(MachineSettings):
    """One worker's settings. Built by `load_settings`; immutable."""

    app: str = setting("jobs:app", "The app to run, as module:attribute.", "module:attribute", "jobs:app")
    fleet: str = setting(
        "default",
        "Name of the fleet, recorded in its lease: another fleet's store is refused.",
        "1 to 64 letters, digits, '.', '_' and '-'",
        "orders-production",
    )
    instance: str | None = setting(
        None,
        "Name of this instance, for people. Default: the host's name.",
        "1 to 64 letters, digits, '.', '_' and '-', starting with a letter or digit",
        "vm-7",
    )
    lease: Annotated[Seconds, Field(le=LONGEST_LEASE)] | None = setting(
        None,
        "Lease duration D: how long a dead leader holds up the fleet; all other timings follow from it. "
        "Default: 15, and 3 on SQLite. Azure takes whole seconds from 15.",
        f"a positive number of seconds, at most {LONGEST_LEASE:g}",
        "15",
    )
    lease_renew: Seconds | None = seconds("From one renewal to the next. Default: lease / 5.", "3")
    lease_total: Seconds | None = seconds("Most time that one request may take. Default: lease x 2 / 15.", "2")
    lease_margin: Seconds | None = seconds(
        "Trust ends this much before the lease may, for a late kernel timer. Default: lease / 15.", "1"
    )
    lease_grace: Seconds | None = seconds("What a leader's work gets to end in. Default: lease / 5.", "3")
    lease_jitter: Seconds | None = seconds("Most random delay on top of a wait. Default: lease / 30.", "0.5")
    member_lease: Seconds | None = seconds("How long a dead instance keeps its partitions. Default: 3 x lease.", "45")
    member_grace: Seconds | None = seconds(
        "What a handler gets to end in when its partition is taken. Default: member lease x 4 / 9.", "20"
    )
    drain_timeout: Seconds | None = seconds(
        "What running handlers get to finish in when the instance drains. Default: 4 x lease.", "60"
    )
    concurrency: int = Field(
        100,
        ge=1,
        le=1000,
        description="Partitions that one instance works on at once.",
        json_schema_extra={"expects": "a whole number from 1 to 1000", "example": "100"},
    )
    idle_poll: Seconds | None = seconds(
        "Longest pause between two looks at an empty queue, where the store cannot wait for a message itself "
        "(SQLite, Azure): a message may have to wait so long. Default: lease / 3.",
        "5",
    )
    admin_host: str = setting(
        "127.0.0.1",
        "Address that the admin port (health, metrics) listens on. A container needs 0.0.0.0.",
        "an IP address",
        "0.0.0.0",
    )
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="The admin port; 0 for none. Default: 8080, and none when another process has it.",
        json_schema_extra={"expects": "a whole number from 0 to 65535", "example": "8080"},
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least severe events to log.", "one of debug, info, warning, error", "info"
    )
    admin_token: SecretStr | None = setting(
        None,
        "Token that the admin port's mutations need: a long random string, such as `openssl rand -hex 32` prints.",
        "a long random string",
        "",
    )

    @property
    def idle_seconds(self) -> float:
        """The longest pause between two looks at an empty queue."""
        return self.leader.lease / 3 if self.idle_poll is None else self.idle_poll

    @property
    def instance_name(self) -> str:
        """This instance's name: as set, or made from the host's."""
        return self.instance or host_instance_name(socket.gethostname())

    @property
    def leader(self) -> Timings:
        """The leader's timings. Raises ImpossibleTimings; not after `load_settings`, which has asked before."""
        default = LOCAL_LEASE if self.local else CLOUD_LEASE
        return leader_timings(
            default if self.lease is None else self.lease,
            renew=self.lease_renew,
            total=self.lease_total,
            margin=self.lease_margin,
            grace=self.lease_grace,
            jitter=self.lease_jitter,
        )

    @property
    def member(self) -> Timings:
        """A member's timings. Raises ImpossibleTimings, as `leader` does."""
        return member_timings(self.leader, lease=self.member_lease, grace=self.member_grace)

    @property
    def drain_seconds(self) -> float:
        """What running handlers get to finish in when this instance drains."""
        return DRAIN_LEASES * self.leader.lease if self.drain_timeout is None else self.drain_timeout

    @property
    def stop_seconds(self) -> float:
        """What the worker gets from TERM to KILL: a whole drain, and the end of what a drain had to cancel."""
        return self.endings.needed

    @property
    def endings(self) -> Endings:
        """How long an instance takes to end, and what it is given."""
        return Endings(self.drain_seconds, self.member.grace, self.stop_grace, self.host_notice)


def load_settings(**flags: object) -> Settings:
    """Read the environment; flags that are not None win. Raises ConfigurationError, one line per problem."""
    given = {name: value for name, value in flags.items() if value is not None}
    problems = _unknown_variables(environment())
    settings: Settings | None = None
    try:
        settings = Settings(**given)  # type: ignore[arg-type]  # validated by pydantic, whatever the flag held
    except ValidationError as exc:
        problems += [_problem(str(error["loc"][0]), error["input"], given) for error in exc.errors()]
    else:
        problems += _contradictions(settings, given)
    if problems or settings is None:
        raise ConfigurationError("\n".join(problems))
    return settings


def environment() -> dict[str, str]:
    """Return this process's `WORKER_…` variables. The one place that reads them, besides pydantic."""
    everything = os.environ  # noqa: TID251 - this is the module that the ban points to
    return {name: value for name, value in everything.items() if name.upper().startswith(PREFIX)}


def host_instance_name(host: str) -> str:
    """Make an instance's name from a host's: what a document's key cannot hold becomes a hyphen."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", host).lstrip("._-")[:64] or "instance"


def variable(name: str) -> str:
    """Name a field's environment variable."""
    return PREFIX + name.upper()


def hint(info: FieldInfo, name: str) -> str:
    """Return a field's `expects` or `example`."""
    extra = info.json_schema_extra
    return str(extra[name]) if isinstance(extra, dict) else ""


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = {variable(name) for name in Settings.model_fields}
    problems = []
    for name in sorted(environ):
        if name.upper() in known or name in SET_BY_US or name.startswith(OF_TESTS):
            continue
        near = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.0)
        problems.append(f"{name} is not a setting: did you mean {near[0]}? Rename or unset it (`worker config env`)")
    return problems


def _problem(name: str, value: object, given: Mapping[str, object]) -> str:
    info = Settings.model_fields[name]
    shown = repr(HIDDEN if name in SECRETS else without_secrets(value) if isinstance(value, str) else value)
    where = _where(name, given)
    return f"{where}={shown} must be {hint(info, 'expects')}; for example {variable(name)}={hint(info, 'example')}"


def _contradictions(settings: Settings, given: Mapping[str, object]) -> list[str]:
    problems = []
    for name in ("fleet", "instance"):
        value = getattr(settings, name)
        try:
            check_instance_name(settings.instance_name if value is None else value)
        except BadName:
            problems.append(_problem(name, value, given))
    for name in ("endpoint_url", "queue_endpoint_url", "host_url"):
        value = getattr(settings, name)
        if value is not None and not names_a_server(value):
            problems.append(_problem(name, value, given))
    if settings.aws_region is not None and not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", settings.aws_region):
        problems.append(_problem("aws_region", settings.aws_region, given))
    if not re.fullmatch(r"(?:[a-z](?:-?[a-z0-9])*-)?", settings.queue_prefix) or len(settings.queue_prefix) > 20:
        problems.append(_problem("queue_prefix", settings.queue_prefix, given))
    lease = settings.lease
    if lease is not None and (settings.store or "").startswith("azure:") and (not 15 <= lease <= 60 or lease % 1):
        problems.append(
            f"{_where('lease', given)}={lease:g} with a store on Azure: "
            "its leases take whole seconds from 15 to 60; set WORKER_LEASE=15"
        )
        return problems
    try:
        timings = settings.leader
    except ImpossibleTimings as exc:
        return [*problems, f"{exc}. Set by {_set_by(settings, 'lease')}"]
    try:
        member = member_timings(timings, lease=settings.member_lease, grace=settings.member_grace)
    except ImpossibleTimings as exc:
        return [*problems, f"of a member: {exc}. Set by {_set_by(settings, 'member', 'lease')}"]
    if patience(member) > LONGEST_PATIENCE:
        problems.append(
            f"a member's lease of {member.lease:g} s makes the fleet wait {patience(member):g} s for a dead instance, "
            f"and {LONGEST_PATIENCE:g} s is the limit. Set by {_set_by(settings, 'member', 'lease')}"
        )
    return problems + settings.endings.problems()


def _set_by(settings: Settings, *families: str) -> str:
    """Name the variables behind a set of timings, with their values: those are what can be changed."""
    names = [name for family in families for name in Settings.model_fields if name.startswith(family)]
    shown = [f"{variable(name)}={getattr(settings, name):g}" for name in names if getattr(settings, name) is not None]
    return ", ".join(shown) or "the defaults"


def _where(name: str, given: Mapping[str, object]) -> str:
    return f"--{name.replace('_', '-')}" if name in given else variable(name)
