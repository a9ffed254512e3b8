from autonomic.agents.planner.explain import explain
from autonomic.seams.decision import Action, Decision, DecisionRecord, Guard, Verdict
from autonomic.seams.plan import Change, Outcome, Plan, VerifySpec
from autonomic.seams.reading import missing, number
from autonomic.seams.runner import PlanStatus

NOW = 1_700_000_000.0


def record(outcome: str = "go", passed: bool = True) -> DecisionRecord:
    return DecisionRecord(
        id="decision-1",
        time=NOW,
        event={"id": "event-1", "source": "monitor", "trigger": "when", "observed_at": NOW - 1},
        readings={"p99": number(0.25, NOW, "promql"), "load": missing(NOW, "scrape", "no sample")},
        decision=Decision(
            strategy="keep",
            target="web/api",
            why="p99 > 0.1 is true",
            actions=(Action(primitive="rescale", target="web/api", args={"by": 1}),),
        ),
        considered=("the event is fresh",),
        verdict=Verdict.model_validate(
            {"outcome": outcome, "guards": (Guard(name="cooldown", passed=passed, detail="5 s after the last"),), "why": "cooldown"}
        ),
        plan="plan-1",
    )


def status() -> PlanStatus:
    named = {"key": "plan-1.0", "primitive": "rescale", "target": "web/api"}
    plan = Plan.model_validate(
        {
            "id": "plan-1",
            "decision": "decision-1",
            "strategy": "keep",
            "target": "web/api",
            "changes": (Change.model_validate({**named, "to": {"replicas": 2}}),),
            "verify": VerifySpec(that="p99 < 1", within_seconds=60),
            "created_at": NOW,
        }
    )
    times = {"started_at": NOW, "finished_at": NOW + 2}
    done = Outcome.model_validate({**named, "status": "done", "before": {"replicas": 1}, "after": {"replicas": 2}, **times})
    return PlanStatus(plan=plan, phase="verified", outcomes=(done,), detail="p99 = 0.05", updated_at=NOW + 3)


def test_a_decision_that_was_carried_out_tells_every_part() -> None:
    told = explain(record(), status())
    parts = [
        "keep on web/api, because of when from monitor",
        "p99 = 0.25",
        "load is missing (no sample)",
        "the event is fresh",
        "rescale web/api {'by': 1}",
        "passed cooldown",
        "carried out and verified (p99 = 0.05)",
        "done in 2 s {'replicas': 1} → {'replicas': 2}",
        "within 60 s: p99 < 1, else revert",
    ]
    for part in parts:
        assert part in told["words"], part
    assert told["plan"]["outcomes"][0]["seconds"] == 2
    assert told["readings"]["load"]["status"] == "missing"


def test_a_decision_that_was_refused_says_by_what_guard() -> None:
    words = explain(record("refuse", passed=False), None)["words"]
    assert "The gate refused it: cooldown" in words
    assert "FAILED cooldown: 5 s after the last" in words


def test_an_approval_is_told() -> None:
    verdict = {"outcome": "go", "why": "every guard let it pass", "guards": []}
    approval = {"actor": "", "what": "approved", "why": "", "verdict": verdict}
    assert "a person approved it; the gate then said go" in explain(record("ask"), status(), [approval])["words"]
