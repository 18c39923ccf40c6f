"""The global options, which work before the command's name and after it: `worker --json status --store …`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from worker.settings import Settings

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_META = "cloud-worker.options"


@dataclass(slots=True)
class Options:
    """What was given on the command line; None and False where nothing was."""

    app: str | None = None
    store: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    yes: bool = False

    @classmethod
    def current(cls) -> Options:
        """Return the options of the command that is running."""
        return of(click.get_current_context())

    @property
    def flags(self) -> dict[str, object]:
        """Return what wins over the environment, in the form that `load_settings` takes."""
        level = "debug" if self.verbose else "warning" if self.quiet else None
        return {"app": self.app, "store": self.store, "log_level": level}


def of(context: click.Context) -> Options:
    """Return the options that belong to a context and all its commands."""
    found: Options = context.meta.setdefault(_META, Options())
    return found


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and value is not False and parameter.name is not None:
        setattr(of(context), parameter.name, value)


def chosen(context: click.Context) -> Settings:
    """Return the settings in force for a command. Raises ConfigurationError, one line per problem."""
    from worker.settings import load_settings

    return load_settings(**of(context).flags)


_SHARED: dict[str, Any] = {"expose_value": False, "callback": _remember}

_GLOBAL: list[Callable[[Any], Any]] = [
    click.option("--app", metavar="MODULE:ATTRIBUTE", help="The app (WORKER_APP).", **_SHARED),
    click.option("--store", metavar="URL", help="The store (WORKER_STORE).", **_SHARED),
    click.option("--json", is_flag=True, help="Print JSON.", **_SHARED),
    click.option("-q", "--quiet", is_flag=True, help="No remarks on stderr, errors only.", **_SHARED),
    click.option("-v", "--verbose", is_flag=True, help="Tell more; show the traceback of an error.", **_SHARED),
    click.option("-y", "--yes", is_flag=True, help="Do not ask; do it.", **_SHARED),
]


def global_options(function: Decorated) -> Decorated:
    """Give a command the global options. They reach it through `Options.current()`, not as arguments."""
    for option in reversed(_GLOBAL):
        function = option(function)
    return function
