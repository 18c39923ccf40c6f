"""`worker run`: one instance. The launcher first; the worker itself is its child.

One command line serves both: the launcher runs it again, and the lifeline in the environment says which one this is.
"""

from __future__ import annotations

import click

from worker.cli import launching
from worker.cli.options import Options, global_options
from worker.settings import load_settings


@click.command()
@global_options
def run() -> int:
    """Run one instance of the app until it is told to stop (SIGTERM, or `worker drain`)."""
    settings = load_settings(**Options.current().flags)
    settings.need_store()
    lifeline = launching.lifeline()
    if lifeline is None:
        launching.start(settings, stop_grace=settings.stop_seconds)
    from worker.loader import load_app
    from worker.process import leave
    from worker.serving import serve

    return leave(serve(load_app(settings.app), settings, lifeline))
