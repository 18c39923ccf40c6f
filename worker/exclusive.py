"""`worker exec NAME -- CMD`: any program, run only while this instance holds the lease NAME.

The same elector as the fleet's leader has, with other duties: run one program, and end it before trust ends. Nobody
hands over here, as there are no members; every waiting instance looks at the lease once per renew interval.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import nullcontext

from providers.interface import Heir
from worker import handlers, process
from worker.candidacy import Candidate
from worker.child import CannotStart, ProgramChild
from worker.clock import SystemClock
from worker.deadman import deadman
from worker.elector import Elector
from worker.errors import ConfigurationError, Exit
from worker.handlers import MainLoopHandlers
from worker.lifeline import Lifeline
from worker.ports import Ports
from worker.serving import build_ports
from worker.settings import Settings
from worker.term import Term

SHARE_OF_TRUST = 0.7
"""How much of the trust that is left a program gets between TERM and KILL, when its term is over."""


class Exclusive:
    """One program under one lease: a service, and its own duties."""

    def __init__(self, name: str, argv: Sequence[str], ports: Ports, session: str, grace: float) -> None:
        self._argv, self._ports, self._grace = argv, ports, grace
        self._child: ProgramChild | None = None
        self._code: int | None = None
        self._draining = False
        self._elector = Elector(
            Candidate(ports.fleet, ports.instance, session, role=name),
            ports.provider,
            ports.clock,
            ports.deadman,
            ports.events.bind(role=name),
            ports.leader,
            self,
            rank=lambda: 0,
        )

    # --- the service ---

    async def run(self) -> int:
        """Wait for the lease, run the program, and return its exit code; 0 when drained before it ever ran."""
        view = await self._ports.provider.lease(self._elector.role).observe()
        if view.garbled is None and view.fleet not in (None, self._ports.fleet):
            raise ConfigurationError(
                f"the lease {self._elector.role!r} belongs to fleet {view.fleet!r}, and WORKER_FLEET is "
                f"{self._ports.fleet!r}: set WORKER_FLEET, or use another prefix in WORKER_STORE"
            )
        self._ports.events.emit("instance.started", pid=os.getpid(), launcher=os.getppid())
        await self._elector.run()
        code = Exit.OK if self._code is None else self._code
        self._ports.events.emit("instance.stopped", exit_code=int(code))
        return int(code)

    def drain(self, reason: str) -> None:
        """End the program with all the grace that a stop allows, and go on renewing meanwhile."""
        if self._draining:
            return
        self._draining = True
        self._ports.events.emit("instance.draining", reason=reason)
        if self._child is not None and not self._child.ended:
            self._child.terminate(self._grace)  # `perform` sees it end, and closes the elector
        else:
            self._elector.close(reason)

    # --- the duties ---

    async def known_term(self) -> int:
        """There are no documents but the lease and the records of its terms."""
        return 0

    async def seal(self, term: Term) -> None:
        """Nothing to seal: the program fences what it writes with WORKER_TERM."""
        term.progress()

    async def prepare_heir(self, term: Term) -> Heir | None:
        """Nobody is named: whoever looks first after the resignation takes over."""
        return None

    async def perform(self, term: Term) -> None:
        """Run the program in this term; returns or raises only when it and all it has started are gone."""
        child = self._child = ProgramChild(self._argv, {**os.environ, "WORKER_TERM": str(term.number)})
        vouching = asyncio.create_task(self._vouch(term))
        try:
            await handlers.call(self._ports.handlers, _start, [child], None)
            if self._draining:
                child.terminate(self._grace)
            self._code = await asyncio.shield(self._ports.handlers.start(child.wait, []).done)
        except asyncio.CancelledError:
            await self._put_down(child, term)  # also when the term was over before the start was
            raise
        except CannotStart as exc:
            self._ports.events.problem(str(exc))
            self._code = int(exc.exit_code)
        finally:
            vouching.cancel()
        self._elector.close("the program has ended")

    async def _put_down(self, child: ProgramChild, term: Term) -> None:
        """End the program before trust ends; returns when nothing of it is left."""
        if child.running:
            left = term.trust.deadline - self._ports.clock.now()
            child.terminate(max(0.0, left * SHARE_OF_TRUST))
            await handlers.ended(self._ports.handlers.start(child.wait, []).done)

    async def _vouch(self, term: Term) -> None:
        """The program is the only duty, and its running is its progress."""
        while True:
            term.progress()
            await self._ports.clock.sleep(self._ports.leader.renew)


async def _start(child: ProgramChild) -> None:
    child.start()


def serve_program(name: str, argv: Sequence[str], settings: Settings, lifeline: Lifeline) -> int:
    """Run a program under the lease NAME; return its exit code. For the worker process's main thread."""
    session = SystemClock().token()

    switch = deadman(publish=lifeline.set_deadline)

    async def build(handlers: MainLoopHandlers) -> Exclusive:
        ports = await build_ports(settings, handlers, lifeline, switch, session)
        return Exclusive(name, argv, ports, session, settings.drain_seconds)

    return process.run(build, nullcontext)
