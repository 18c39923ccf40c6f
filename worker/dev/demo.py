"""A bad minute in the life of a fleet, told as it happens, and judged at the end.

    three instances      elect a leader, who gives the queue's partitions to them
    messages in waves    half of them to the intake, which the leader routes, half hashed to their partitions
    in mid-run           the leader is killed, a follower is killed, the next leader is killed
    and then             a leader is frozen, superseded, woken; its plan is written again in its old term

Nothing here is staged in the fleet: the instances are ordinary `worker run` processes and know of no demo. What it
claims at the end is read off their events (`worker.dev.history`) and out of the store (the caller's audit).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from providers.interface import Document, Refused
from providers.provider import Provider
from worker.clock import SystemClock
from worker.dev.fleet import NoProcess, NotWithin, named
from worker.dev.history import Gap, check
from worker.dev.instance import Instance
from worker.dev.stage import STARTING, Stage
from worker.dev.summary import gap_table, message_table, promise_for, table
from worker.errors import Fenced, WorkerError
from worker.fenced import FencedDocument
from worker.loader import load_app
from worker.settings import Settings

INTO_A_WAVE = 150
"""Messages of a wave that are handled before the next fault strikes, unless their owners are dead."""

WAVES = 4

Audit = Callable[[Provider], Coroutine[Any, Any, str]]
"""Looks in the store for what the messages should have done; returns the closing line, or raises WorkerError."""


class Broken(WorkerError):
    """Something was not true that the demo is about to claim."""


def play(settings: Settings, queue: str, bodies: Sequence[Any], audit: Audit, *, count: int = 3) -> None:
    """Play the demo in `settings.store` and return when all of it has come true. Raises WorkerError, ProviderError.

    `bodies` are the messages for `queue` of `settings.app`. Nobody else may be using the store.
    """
    stage = Stage(settings, load_app(settings.app), queue, count)
    try:
        _play(stage, bodies, audit)
    except (NotWithin, NoProcess, TimeoutError) as exc:
        raise Broken(str(exc) or "the fleet did not become whole in time") from exc
    finally:
        stage.close()


def _play(stage: Stage, bodies: Sequence[Any], audit: Audit) -> None:
    say, fleet = stage.narrator.say, stage.fleet
    waves = [bodies[number::WAVES] for number in range(WAVES)]
    say(f"{len(fleet.instances)} instances start; all that they share is {fleet.store}")
    fleet.start()
    stage.await_leader(0)
    stage.await_ownership()
    _send(stage, waves[0])
    _kill_leader(stage)
    _send(stage, waves[1])
    _kill_follower(stage)
    _send(stage, waves[2])
    _kill_leader(stage)
    _send(stage, waves[3])
    old, new = _freeze_leader(stage)
    say(f"{stage.open:,} messages are still open, most of them in partitions of those that died")
    say(f"a partition passes on when its owner can act no more (promised: at most {_passing_on(stage):.0f} s)")
    stage.await_settled()
    until = fleet.mark()
    say("every message is settled; the fleet is told to stop (SIGTERM)", mark="=")
    fleet.close()
    _judge(stage, until)
    total = stage.ask(audit(stage.provider))
    stage.narrator.plain(f"2 leaders killed, 1 woken from the dead: the store refused its write (term {old} < {new})")
    stage.narrator.plain(total)


def _send(stage: Stage, bodies: Sequence[Any]) -> None:
    leader = stage.await_whole()
    half = len(bodies) // 2
    stage.send(bodies[:half], bodies[half:])
    stage.narrator.say(
        f"{len(bodies):,} messages are sent: {half:,} to the intake, which {leader.name} routes as leader, "
        f"and {len(bodies) - half:,} straight to their partitions"
    )
    stage.await_handled(min(INTO_A_WAVE, half))


def _open_messages(stage: Stage) -> str:
    if stage.open == 0:
        raise Broken("all messages were handled before the next fault: it would not have struck in mid-run")
    return f"{stage.open:,} messages open"


def _leader(stage: Stage) -> Instance:
    leader = stage.await_whole()
    if leader.term is None:
        raise Broken(f"{leader.name} has just lost its term, and nothing was done to it")
    return leader


def _kill_leader(stage: Stage) -> None:
    leader, mark = _leader(stage), stage.fleet.mark()
    term, waiting = leader.term, _open_messages(stage)
    fault = stage.fleet.kill_worker(leader.name)
    stage.narrator.say(f"SIGKILL for {leader.name}, leader of term {term}, with {waiting}", mark="!")
    stage.await_leader(mark, fault)


def _kill_follower(stage: Stage) -> None:
    leader = _leader(stage)
    followers = [it for it in stage.fleet.instances.values() if it is not leader and it.worker is not None]
    follower = max(followers, key=lambda it: len(it.partitions))
    owned, waiting = len(follower.partitions), _open_messages(stage)
    stage.fleet.kill_worker(follower.name)
    stage.narrator.say(f"SIGKILL for {follower.name}, a follower with {owned} partitions, with {waiting}", mark="!")


def _freeze_leader(stage: Stage) -> tuple[int, int]:
    """Freeze the leader until it is superseded, wake it, and attempt its next write for it. Returns both terms."""
    fleet, say, leader, mark = stage.fleet, stage.narrator.say, _leader(stage), stage.fleet.mark()
    name, term, session, waiting = leader.name, leader.term or 0, leader.session, _open_messages(stage)
    fault = fleet.stop(name, machine=True)
    say(f"SIGSTOP for {name}, leader of term {term}, as a host freezes a VM, with {waiting}", mark="!")
    plan = stage.ask(stage.provider.documents.read("plan"))
    assert plan is not None  # only a conditional read answers None
    newer = stage.await_leader(mark, fault).term or 0
    woken = fleet.mark()
    alive = fleet.resume(name).get("alive")
    say(f"SIGCONT for {name}, which has not heard that its term is over", mark="!")
    ended = named("instance.killed", instance=name)
    death = fleet.wait_for(ended, STARTING, since=woken, what=f"the end of {name}, woken in an old term")
    acts = [event.name for event in fleet.events(since=woken) if event.session == session and not ended(event)]
    if acts:
        raise Broken(f"{name} acted in term {term} after it was woken: {', '.join(acts)}")
    when = "at once" if alive else "in its sleep"
    say(f"nobody wakes: the kernel has ended that process {when} ({death.get('why')})", mark="=")
    say(f"so the demo writes in its place: the plan once more, in term {term}, as if that write came late", mark="!")
    for attempt, refusal in stage.ask(_replay(stage.provider, plan, term)):
        say(f"{attempt}: refused ({refusal})", mark="=")
    return term, newer


def _passing_on(stage: Stage) -> float:
    return stage.bounds["leader-loss"].worst


async def _replay(provider: Provider, plan: Document, term: int) -> list[tuple[str, str]]:
    """Attempt all that a leader of that term could still attempt, and return how each attempt was refused."""
    late = FencedDocument(provider.documents, "plan", term, SystemClock(), field="term")
    try:
        await late.open()
    except Fenced as exc:
        opened = str(exc)
    else:
        raise Broken(f"the plan could be opened in term {term}, which is over")
    try:
        await provider.documents.replace(plan.stamp, plan.body)
    except Refused as exc:
        written = " ".join(str(exc).split())
    else:
        raise Broken(f"the plan of term {term} could be written over a newer one")
    return [("opening the plan in its term", opened), ("the bare write, over the version it had read", written)]


def _judge(stage: Stage, until: int) -> None:
    """Print what happened, and raise Broken for whatever must not have."""
    report = check(stage.fleet.history[:until], sent=stage.sent)
    stage.narrator.plain()
    for line in [*table(*gap_table(report, stage.bounds)), "", *table(*message_table(report, stage.sent)), ""]:
        stage.narrator.plain(line)
    problems = check(stage.fleet.history, sent=stage.sent).problems
    promised = [(gap, promise_for(gap, stage.bounds).worst) for gap in report.gaps]
    problems += [_too_late(gap, worst) for gap, worst in promised if gap.seconds > worst]
    if len(report.gaps) != 3:
        problems.append(f"3 leaders were lost on purpose, and {len(report.gaps)} terms ended")
    if problems:
        raise Broken("\n".join(problems))


def _too_late(gap: Gap, worst: float) -> str:
    return f"term {gap.next_term} came {gap.seconds:.1f} s after the end of term {gap.term}; promised: {worst:.1f} s"
