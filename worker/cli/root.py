"""`worker`: which commands there are, and how every one of them ends.

A command is imported when it runs: its line in the table below is all that `worker --help` needs. What goes wrong
becomes one line on stderr and an exit code here, and nowhere else; `-v` shows the traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import MutableMapping
from typing import Any, NoReturn

import click

from worker import __version__
from worker.cli.options import Options, global_options, of
from worker.errors import Exit, WorkerError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("worker.cli.run:run", "Run this machine's worker."),
    "dev": ("worker.cli.dev:dev", "Run a small fleet on this machine, and watch it."),
    "exec": ("worker.cli.exec:exec_", "Run any program on one machine at a time."),
    "doctor": ("worker.cli.doctor:doctor", "Examine settings, permissions and the store, before a start."),
    "bounds": ("worker.cli.bounds:bounds", "Say how long each recovery takes, before anyone deploys."),
    "status": ("worker.cli.look:status", "Show the leader, the instances and the queues."),
    "history": ("worker.cli.look:history", "Show who led when, and how each term ended."),
    "partitions": ("worker.cli.partitions:partitions", "Show who owns which partition; change a queue's count."),
    "step-down": ("worker.cli.orders:step_down", "Tell the leader to hand over and stay."),
    "drain": ("worker.cli.orders:drain", "Tell an instance to finish, release and exit."),
    "pause": ("worker.cli.orders:pause", "Stop handling a queue, everywhere."),
    "resume": ("worker.cli.orders:resume", "Handle a paused queue again."),
    "send": ("worker.cli.send:send", "Send messages to a queue."),
    "dlq": ("worker.cli.dlq:dlq", "List, show, replay or discard dead letters."),
    "config": ("worker.cli.config:config", "Show the settings, and what they may be."),
}
"""Name: where its click command is, and its line in `worker --help`."""

EPILOG = """\b
Exit codes:
  0  ok
  1  failed
  2  wrong usage or input
  3  configuration: a setting, the app or the store's content is wrong
  4  the store cannot be reached or denies access
  5  nobody leads
  6  degraded: it works, but not as it should
  7  what the command relies on is not so (any more)

Data goes to stdout, everything else to stderr. Settings: `worker config env`.
"""

INTERRUPTED = 130
"""What shells expect of a program that ended by Ctrl-C."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and turns errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table, which is the order of first use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table's lines: nothing is imported for `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command and exit with its code. Without `standalone_mode`, errors are the caller's."""
        run: Any = super().main  # its overloads tell apart what is passed on here unseen
        if not standalone_mode:
            return run(*args, standalone_mode=False, **extra)
        remembered: dict[str, Any] = {}
        try:
            code = run(*args, standalone_mode=False, obj=remembered, **extra)
            sys.stdout.flush()
        except BaseException as exc:
            code = _end(exc, verbose=_wants_traceback(remembered))
        sys.exit(code if isinstance(code, int) else Exit.OK)


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, "--version", message="%(version)s")
@global_options
@click.pass_context
def cli(context: click.Context) -> None:
    """Identical workers, one leader, no coordinator but the storage you already have."""
    if isinstance(context.obj, MutableMapping):
        context.obj["options"] = of(context)


def main() -> NoReturn:
    """Run the command line and exit. The console script."""
    cli.main(prog_name="worker")
    raise AssertionError("unreachable: main exits")


def _wants_traceback(remembered: MutableMapping[str, Any]) -> bool:
    options = remembered.get("options")
    return isinstance(options, Options) and options.verbose


def _end(exc: BaseException, *, verbose: bool) -> int:
    """Say what went wrong, in a line, and return the exit code."""
    if isinstance(exc, click.ClickException):
        exc.show()
        return Exit.USAGE if isinstance(exc, click.UsageError) else exc.exit_code
    if isinstance(exc, click.Abort | KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    if isinstance(exc, BrokenPipeError):  # the reader of our output (`| head`) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    if isinstance(exc, SystemExit | GeneratorExit):
        raise exc
    if verbose:
        import traceback

        traceback.print_exception(exc)
    lines, code = describe(exc)
    for line in lines:
        _say(f"error: {line}")
    return code


def describe(exc: BaseException) -> tuple[list[str], int]:
    """Return the lines that tell a user what went wrong, and the exit code. Also for `run` and `exec`."""
    if isinstance(exc, WorkerError):
        return str(exc).splitlines() or [type(exc).__name__], exc.exit_code
    interface = sys.modules.get("providers.interface")  # not imported: then it is not the store's error
    if interface is not None and isinstance(exc, interface.ProviderError):
        text = " ".join(str(exc).split()) or type(exc).__name__
        if isinstance(exc, interface.BadDocument):
            return [text], Exit.CONFIGURATION
        if isinstance(exc, interface.OutcomeUnknown):
            return [f"the store did not answer, and may have done what was asked: {text}"], Exit.STORE
        return [f"store: {text}"], Exit.STORE
    text = " ".join(str(exc).split())
    return [f"unexpected {type(exc).__name__}: {text} (this is a bug in worker; -v shows the traceback)"], Exit.FAILED


def _say(line: str) -> None:
    click.echo(line, err=True)
