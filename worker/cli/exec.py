"""`worker exec NAME -- CMD`: run any program on one machine at a time."""

from __future__ import annotations

import click

from worker.cli import launching
from worker.cli.options import Options, global_options
from worker.core.names import BadName, check_role_name
from worker.settings import load_settings


@click.command("exec", context_settings={"ignore_unknown_options": True})
@global_options
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, command: tuple[str, ...]) -> int:
    """Run COMMAND only while this machine holds the lease NAME; end with its exit code.

    Wherever the same line is started, one of them runs the program and the others wait; when it ends, the next one
    starts its own. The program finds the term in WORKER_TERM: stamp it on what it writes, and let the receiver refuse
    lower ones. When the lease is lost, its process group gets TERM, and KILL before anybody else can hold it.
    """
    settings = load_settings(**Options.current().flags)
    settings.need_store()
    try:
        role = check_role_name(name)
    except BadName as exc:
        raise click.UsageError(str(exc)) from exc
    lifeline = launching.lifeline()
    if lifeline is None:
        grace = settings.drain_seconds + settings.leader.grace
        launching.start(settings, stop_grace=grace, restart_codes=())
    from worker.exclusive import serve_program
    from worker.process import leave

    return leave(serve_program(role, list(command), settings, lifeline))
