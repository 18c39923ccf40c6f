"""The metrics of one instance, under fixed names (docs/metrics.md): fed by events and requests, read when scraped.

What can be asked of the runtime is asked at the scrape and stored nowhere. Labels come from the app's queues, the
driver's operations and fixed lists, never from messages, instances or documents, so that their number is bounded.
A counter that an alert may watch is there before it moves: to Prometheus, one that appears has not increased.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from providers.interface import Call
from worker.core.plan import Cause, Plan
from worker.supervisor import Supervisor
from worker.web.sampling import Samples

disable_created_metrics()  # type: ignore[no-untyped-call]  # as many lines again, which nobody asks for

REASONS = {"leader.elected": "elected", "leader.stepped_down": "stepped_down", "leader.lost": "lost"}

OUTCOMES = {
    "message.handled": "handled",
    "message.retried": "retried",
    "message.dead_lettered": "dead_lettered",
    "write.refused": "refused",
}
"""Event after a handler call: what became of it."""

OTHER = "other"
"""Cause of a move that a newer version has named: a plan is a document, and may say anything."""

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Seconds: from a store next door to the total time of one request on the longest lease."""

_CAUSES = frozenset(Cause)

MESSAGE_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0)


class Metrics:
    """One registry for one instance. `on_call` and `on_event` may be called before `watch` says of which.

    They may be called from any thread: counters have locks. A scrape reads the runtime, on the control thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._present: _Present | None = None
        ProcessCollector(registry=self.registry)  # memory, files, CPU and start time of the worker process
        self.transitions = Counter(
            "worker_leader_transitions_total",
            "Changes of this instance's own leadership.",
            ["reason"],
            registry=self.registry,
        )
        self.renewals = Histogram(
            "worker_lease_renew_duration_seconds",
            "Duration of answered renewals of the leader's lease.",
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.failed_renewals = Counter(
            "worker_lease_renew_failures_total", "Renewals without a clear answer.", registry=self.registry
        )
        self.moves = Counter(
            "worker_plan_moves_total", "Partitions that this leader has granted.", ["cause"], registry=self.registry
        )
        self.messages = Histogram(
            "worker_message_duration_seconds",
            "Duration of handler calls.",
            ["queue", "outcome"],
            buckets=MESSAGE_BUCKETS,
            registry=self.registry,
        )
        self.dead_letters = Counter(
            "worker_dead_letters_total", "Messages moved to a dead-letter queue.", ["queue"], registry=self.registry
        )
        self.requests = Counter(
            "worker_store_requests_total", "Calls to the store.", ["operation", "outcome"], registry=self.registry
        )
        for reason in REASONS.values():
            self.transitions.labels(reason)
        for cause in Cause:
            self.moves.labels(cause.value)

    def watch(self, supervisor: Supervisor, samples: Samples) -> None:
        """Show this instance's present state at every scrape."""
        for queue in supervisor.app.queues:
            self.dead_letters.labels(queue)
        self._present = _Present(supervisor, samples)
        self.registry.register(self._present)

    def unwatch(self) -> None:
        """Show nothing of that instance any more: it has ended. What was counted stays."""
        if self._present is not None:
            self.registry.unregister(self._present)
            self._present = None

    def on_call(self, call: Call) -> None:
        """Count one request: what `providers.connect.connect` takes."""
        self.requests.labels(call.operation, call.outcome).inc()
        if call.operation == "lease.renew" and call.outcome == "ok":
            self.renewals.observe(call.seconds)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Count one event: a sink of `worker.telemetry`."""
        name = event["event"]
        if name in REASONS:
            self.transitions.labels(REASONS[name]).inc()
        elif name == "lease.renew_failed":
            self.failed_renewals.inc()
        elif name == "plan.published":
            for cause, count in event.get("moves", {}).items():
                self.moves.labels(cause if cause in _CAUSES else OTHER).inc(count)
        elif name == "message.dead_lettered":
            self.dead_letters.labels(event["queue"]).inc()
        if name in OUTCOMES and "seconds" in event:  # a letter may be dead, and a write refused, without a handler call
            self.messages.labels(event["queue"], OUTCOMES[name]).observe(event["seconds"])


class _Present(Collector):
    """What is so at the moment of the scrape."""

    def __init__(self, supervisor: Supervisor, samples: Samples) -> None:
        self._supervisor, self._samples = supervisor, samples

    def collect(self) -> Iterator[Metric]:
        """Read the runtime. Called on the control thread, by the scrape."""
        elector, session = self._supervisor.elector, self._supervisor.member.session
        term, plan = elector.term if elector.acting else None, self._supervisor.member.board.plan
        yield _gauge("worker_leader_status", "1 on the instance that leads, 0 elsewhere.", float(term is not None))
        known = term.number if term is not None else plan.term if plan is not None else 0
        yield _gauge("worker_leader_term", "The newest term that this instance knows of.", known)
        left = 0.0 if term is None else max(0.0, term.trust_left)
        yield _gauge(
            "worker_lease_trust_remaining_seconds", "Seconds for which a leader may act without renewing.", left
        )
        members = self._supervisor.duties.living if term is not None else None
        if members is not None:
            yield _gauge("worker_members", "Instances that the leader sees alive. On the leader only.", members)
        partitions = GaugeMetricFamily(
            "worker_partitions",
            "Partitions: `active` here; on the leader also `free`, `granted`, `moving` in the whole fleet.",
            labels=["state"],
        )
        partitions.add_metric(["active"], 0 if session is None else len(session.ownership.active))
        if term is not None and plan is not None:
            for state, count in _states(plan).items():
                partitions.add_metric([state], count)
        yield partitions
        yield _gauge("worker_messages_inflight", "Handler calls under way.", self._supervisor.handling)
        yield from self._sampled()

    def _sampled(self) -> Iterator[Metric]:
        messages: Tally[tuple[str, str]] = Tally()
        oldest: dict[tuple[str, str], float] = {}
        for place, found in self._samples.latest.items():
            where = place.queue, place.part
            messages[where] += found.visible + found.hidden
            if found.oldest_age is not None:
                oldest[where] = max(found.oldest_age, oldest.get(where, 0.0))
        depth = GaugeMetricFamily(
            "worker_queue_depth", "Messages, as of the last sample, in hand or not.", labels=["queue", "part"]
        )
        age = GaugeMetricFamily(
            "worker_queue_oldest_age_seconds",
            "Age of the oldest message, where the store tells.",
            labels=["queue", "part"],
        )
        for (queue, part), count in messages.items():
            depth.add_metric([queue, part], count)
        for (queue, part), seconds in oldest.items():
            age.add_metric([queue, part], seconds)
        yield depth
        yield age
        backlog = sum(count for (_, part), count in messages.items() if part != "dead")
        yield _gauge("worker_backlog_per_instance", "This instance's share of what is to be handled.", backlog)


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _states(plan: Plan) -> dict[str, int]:
    tally = Tally({"free": 0, "granted": 0, "moving": 0})
    for item in plan.partitions.values():
        tally["free" if item.owner is None else "granted" if item.next is None else "moving"] += 1
    return dict(tally)
