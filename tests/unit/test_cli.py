"""The frame of the command line: help, options, and how a command ends when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.unit.cli_support import failure, in_store, lead, put, store, worker
from worker.cli import cli
from worker.cli.root import COMMANDS

__all__ = ["store"]  # a fixture

ROOT = Path(__file__).parents[2]


# --- the frame ---


def test_help_names_every_command_and_every_exit_code() -> None:
    """The help must list all commands, each with its line, and say what the exit codes mean."""
    result = worker("--help")
    assert result.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert name in result.stdout
        assert text in result.stdout
    for code in range(8):
        assert f"{code}  " in result.stdout


def test_help_imports_nothing_but_click() -> None:
    """`worker --help` must not pay for pydantic, structlog, rich, a store or the user's app."""
    code = (
        "import sys\nfrom worker.cli import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "ours = sorted(name for name in sys.modules if name.startswith(('worker.', 'providers')))\n"
        "print(ours, file=sys.stderr)\n"
        "print(sorted({'pydantic', 'structlog', 'rich', 'sqlite3', 'asyncio'} & set(sys.modules)), file=sys.stderr)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    modules, heavy = found.stderr.strip().splitlines()[-2:]
    assert heavy == "[]"
    assert modules == "['worker.cli', 'worker.cli.options', 'worker.cli.root', 'worker.errors']"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("run", "dev", "exec")])
def test_every_command_has_its_help_and_the_global_options(name: str) -> None:
    """Each command in the table must exist, explain itself, and take the global options."""
    result = worker(name, "--help")
    assert result.exit_code == 0
    for option in ("--app", "--store", "--json", "--quiet", "--verbose", "--yes"):
        assert option in result.stdout


def test_global_options_stand_before_or_after(store: str) -> None:
    """`worker --json pause` and `worker pause --json` must mean the same."""
    before, after = worker("--json", "pause", "orders"), worker("pause", "orders", "--json")
    assert json.loads(before.stdout) == json.loads(after.stdout) == {"paused": ["orders"]}


def test_usage_errors_end_with_2(store: str) -> None:
    """Unknown commands, options and missing arguments must end with 2."""
    for args in (["nonsense"], ["status", "--nonsense"], ["pause"], ["send", "orders"], ["partitions", "--count", "3"]):
        assert worker(*args).exit_code == 2, args
    assert worker("dlq", "replay", "orders").exit_code == 2
    assert worker("dlq", "discard", "orders", "id", "--all").exit_code == 2
    assert worker("pause", "UPPER").exit_code == 2
    assert worker("exec", "not/a/name", "--", "true").exit_code == 2
    assert worker("exec", "leader", "--", "true").exit_code == 2


def test_an_interrupt_is_not_a_traceback(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C must end a command with 130 and one word."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.cli.orders.with_fleet", interrupted)
    assert failure("pause", "orders", code=130) == "interrupted"


def test_verbose_shows_the_traceback_of_an_error(store: str) -> None:
    """-v must show where an error came from, and its last line must still be the error."""
    result = worker("-v", "partitions", "--store", "nonsense")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: WORKER_STORE: ")


# --- bad configuration ---


def test_no_store() -> None:
    """Without a store every command that needs one must end with 3 and list the forms."""
    for name in ("status", "history", "partitions", "step-down"):
        line = failure(name, code=3)
        assert "WORKER_STORE is not set" in line
        assert "sqlite:///" in line


def test_an_unknown_variable(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable must end any command with 3 and the nearest name."""
    monkeypatch.setenv("WORKER_LEESE", "3")
    assert "did you mean WORKER_LEASE?" in failure("status", code=3)


def test_impossible_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Impossible timings must end with 3, both values and the variable named."""
    monkeypatch.setenv("WORKER_LEASE_RENEW", "12")
    line = failure("bounds", code=3)
    assert "renew 12" in line
    assert "lease 15" in line
    assert "WORKER_LEASE_RENEW=12" in line


@pytest.mark.parametrize("url", ["nonsense", "http://x/y", "sqlite:", "azure://account", "s3://No_Bucket"])
def test_a_store_that_cannot_be(url: str) -> None:
    """A URL that names no store must end with 3."""
    assert failure("status", "--store", url, code=3).startswith("error: WORKER_STORE: ")


def test_a_store_that_cannot_be_opened(tmp_path: Path) -> None:
    """A store that cannot be reached, or is none, must end with 4."""
    (tmp_path / "fleet.db").write_bytes(b"this is not a database, but it is long enough to be taken for one " * 40)
    failure("status", "--store", f"sqlite:///{tmp_path / 'fleet.db'}", code=4)
    failure("status", "--store", f"sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'fleet.db'}", code=4)


def test_another_fleets_store(store: str) -> None:
    """A store that another fleet uses must be refused with 3 before anything is done to it."""
    in_store(store, lambda provider: lead(provider, fleet="other"))
    assert "belongs to fleet 'other'" in failure("pause", "orders", code=3)


def test_a_missing_or_broken_app(store: str, tmp_path: Path) -> None:
    """An app that was asked for and cannot be loaded must end with 3."""
    assert "no module 'nowhere_at_all'" in failure("send", "orders", "1", "--app", "nowhere_at_all:app", code=3)
    (tmp_path / "broken_sample.py").write_text("raise ValueError('boom')\n")
    line = failure("send", "orders", "1", "--app", "broken_sample:app", code=3)
    assert "broken_sample.py:1: ValueError: boom" in line


def test_garbage_in_the_control_document(store: str) -> None:
    """A damaged control document must end an order with 3, and --yes must begin a new one."""
    in_store(store, lambda provider: put(provider, "control", b"garbage"))
    assert "--yes" in failure("pause", "orders", code=3)
    assert worker("pause", "orders", "--yes").exit_code == 0


def test_the_table_is_the_only_list_of_commands() -> None:
    """Every command in the table must be a click command of that very name."""
    context = click.Context(cli)
    for name in COMMANDS:
        if name not in ("run", "dev", "exec"):
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name
