"""A command line over a store on disk, for tests: run a command, and write what instances would."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from providers.body import encode
from providers.connect import connect
from providers.interface import Bid, NotFound
from providers.provider import Provider
from worker.cli import cli
from worker.core.plan import Assignment, Plan


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store on disk, chosen by the environment, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    monkeypatch.setenv("WORKER_STORE", url)
    monkeypatch.setitem(sys.modules, "jobs", None)  # the sample app is not on an operator's machine
    return url


def worker(*args: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(args), input=input)


def failure(*args: str, code: int, input: str | None = None) -> str:
    """Run a command that must fail with this code, and return its one line on stderr."""
    result = worker(*args, input=input)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    [line] = result.stderr.strip().splitlines()
    return line


def in_store(url: str, work: Callable[[Provider], Awaitable[object]]) -> Any:
    """Do something to the store, as an instance would."""

    async def whole() -> object:
        provider = connect(url)
        try:
            return await work(provider)
        finally:
            await provider.close()

    return asyncio.run(whole())


async def put(provider: Provider, key: str, body: bytes) -> None:
    try:
        found = await provider.documents.read(key)
    except NotFound:
        await provider.documents.create(key, body)
    else:
        assert found is not None
        await provider.documents.replace(found.stamp, body)


async def lead(provider: Provider, term: int = 3, fleet: str = "default", duration: float = 0.2) -> None:
    lease = provider.lease("leader")
    await lease.claim(await lease.observe(), Bid("s", "i-1", fleet, term, duration, f"n{term}"))


async def plan(provider: Provider) -> None:
    made = Plan(3, 1, "i-1~s", (), {"orders": 2}, {"orders-00": Assignment("i-1~s", None, 1)})
    await put(provider, "plan", encode({"nonce": "n", **made.to_fields()}))


async def member(provider: Provider, id: str = "i-1~s", state: str = "ready") -> None:
    await put(provider, f"members/{id}", encode({"nonce": "n", "state": state, "queues": {"orders": 2}}))
