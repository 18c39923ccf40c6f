"""What a command that talks to the store works with, opened and closed around it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import click

from providers.connect import connect
from providers.interface import LeaseView, Misconfigured
from providers.provider import Provider
from worker.admin.control import Orders, operator
from worker.admin.watcher import Watcher
from worker.app import App
from worker.cli.options import Options, chosen
from worker.clock import Clock, SystemClock
from worker.errors import ConfigurationError, LostPrecondition
from worker.loader import load_app
from worker.settings import Settings

Result = TypeVar("Result")


@dataclass(frozen=True)
class Fleet:
    """One store, the settings that led to it, and the operator's options."""

    provider: Provider
    settings: Settings
    options: Options
    clock: Clock

    @property
    def watcher(self) -> Watcher:
        """A new observer of this fleet, who has not seen anything yet."""
        return Watcher(self.provider, self.clock)

    @property
    def orders(self) -> Orders:
        """Give orders in the name of whoever runs this command."""
        return Orders(self.provider, self.clock, operator(), replace_damaged=self.options.yes)

    @property
    def every(self) -> float:
        """Seconds between two looks while waiting: a fraction of what is waited for."""
        return min(0.5, self.settings.leader.renew / 4)

    def note(self, text: str) -> None:
        """Remark something on stderr, unless asked to be quiet."""
        if not self.options.quiet:
            click.echo(text, err=True)


def with_fleet(work: Callable[[Fleet], Awaitable[Result]]) -> Result:
    """Open the store, refuse another fleet's, do the work, close. The one way to the store for commands."""
    options = Options.current()
    settings = chosen(click.get_current_context())
    store = settings.need_store()
    try:
        provider = connect(store, total=settings.leader.total, options=settings.store_options)
    except Misconfigured as exc:
        raise ConfigurationError(f"WORKER_STORE: {exc}") from exc

    async def whole() -> Result:
        try:
            await provider.prepare()
            await _check_fleet(provider, settings.fleet)
            return await work(Fleet(provider, settings, options, SystemClock()))
        finally:
            await provider.close()

    return asyncio.run(whole())


def app_if_there(fleet: Fleet) -> App | None:
    """Load the app for what it declares. One that was not asked for by name may be missing; a bad one is remarked."""
    asked = "app" in fleet.settings.model_fields_set
    try:
        return load_app(fleet.settings.app)
    except ConfigurationError as exc:
        if asked:
            raise
        if "there is no module" not in str(exc):
            fleet.note(f"warning: going on without the app: {exc}")
        return None


async def _check_fleet(provider: Provider, fleet: str) -> None:
    view: LeaseView = await provider.lease("leader").observe()
    if view.fleet is not None and view.fleet != fleet:
        raise ConfigurationError(
            f"WORKER_FLEET is {fleet!r}, and the store {provider.url} belongs to fleet {view.fleet!r}: "
            f"set WORKER_FLEET={view.fleet}, or name another store"
        )


def confirm(fleet: Fleet, question: str) -> None:
    """Ask before something that cannot be undone. Raises LostPrecondition when nobody can answer, or says no."""
    if fleet.options.yes:
        return
    if not sys.stdin.isatty():
        raise LostPrecondition(f"{question} Nobody is there to be asked: add --yes")
    if not click.confirm(question, err=True):
        raise LostPrecondition("nothing was done")


__all__ = ["Fleet", "app_if_there", "confirm", "with_fleet"]
