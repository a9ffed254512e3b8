"""What the planner shows to Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from autonomic.seams.decision import DecisionRecord
from autonomic.seams.runner import PlanStatus


class Metrics:
    """Counters since the start of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter("autonomic_events", "Events that came in and were new.", ["type"], registry=registry)
        self.decisions = Counter("autonomic_decisions", "Decisions made.", ["strategy", "verdict"], registry=registry)
        self.plans = Counter("autonomic_plans", "Plans that came to a phase.", ["phase"], registry=registry)
        self.actions = Counter("autonomic_actions", "Changes tried.", ["primitive", "status"], registry=registry)
        self.waiting = Gauge("autonomic_planner_waiting_events", "Events that wait for a worker or are with one.", registry=registry)
        self.leader = Gauge("autonomic_planner_leader", "1 while this planner holds the lease.", registry=registry)
        self.reaction = Histogram(
            "autonomic_event_to_plan_seconds",
            "From the commit of an event to the start of its plan.",
            registry=registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
        )

    def decided(self, record: DecisionRecord) -> None:
        """Counts a decision."""
        verdict = record.verdict.outcome if record.verdict else "none"
        self.decisions.labels(record.decision.strategy or "by-hand", verdict).inc()

    def progressed(self, before: PlanStatus, after: PlanStatus) -> None:
        """Counts what a plan's step did."""
        if before.phase != after.phase:
            self.plans.labels(after.phase).inc()
        for outcome in (*after.outcomes[len(before.outcomes) :], *after.reverts[len(before.reverts) :]):
            self.actions.labels(outcome.primitive, outcome.status).inc()
