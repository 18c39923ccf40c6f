"""`worker exec`: the duties of a term that consist of one program."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakes import World, run
from tests.waiting import alive, until
from worker.clock import SystemClock
from worker.core.election import Trust
from worker.exclusive import Exclusive
from worker.handlers import MainLoopHandlers
from worker.ports import Ports
from worker.term import Term


def ports() -> Ports:
    """Everything simulated, for an exclusive whose elector is never run."""
    found: list[Ports] = []

    async def take(world: World) -> None:
        found.append(world.ports())

    run(take)
    return found[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the program's end is seen in /proc")
@pytest.mark.parametrize("after", [0.0, 0.01, 0.2], ids=["at once", "while it starts", "once it runs"])
def test_no_program_outlives_its_term(tmp_path: Path, after: float) -> None:
    """Whenever the lease is lost, before, while or after the program starts, the work ends only with the program."""
    begun = tmp_path / "begun"
    simulated = ports()
    argv = ["sh", "-c", f"echo $$ > {begun}; exec sleep 30"]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        real = replace(simulated, clock=SystemClock(), handlers=MainLoopHandlers(loop))
        exclusive = Exclusive("nightly", argv, real, "s", 1.0)
        finished: asyncio.Future[None] = loop.create_future()
        thread = threading.Thread(target=control, args=(exclusive, finished), daemon=True)
        thread.start()
        await finished

    def control(exclusive: Exclusive, finished: asyncio.Future[None]) -> None:
        async def lose() -> None:
            clock = SystemClock()
            term = Term(7, "s", Trust(clock.now() + 2, clock.now() + 4), clock, 3.0)
            work = asyncio.create_task(exclusive.perform(term))
            await asyncio.wait({work}, timeout=after)
            work.cancel()
            await asyncio.wait({work}, timeout=20)
            assert work.done()
            child = exclusive._child
            assert child is None or not child.running

        try:
            asyncio.run(lose())
        except BaseException as exc:
            finished.get_loop().call_soon_threadsafe(finished.set_exception, exc)
        else:
            finished.get_loop().call_soon_threadsafe(finished.set_result, None)

    asyncio.run(main())
    if begun.exists() and begun.read_text().strip():
        pid = int(begun.read_text())
        until(lambda: not alive(pid), within=1.0, what="the program is gone")
