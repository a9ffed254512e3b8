from typing import Any

import pytest

from autonomic.seams.clock import VirtualClock
from autonomic.seams.state import RunState
from autonomic.workflows.runs.engine import GRACE_SECONDS, Dag, Kill, Launch, new_run
from autonomic.workflows.spec.workflow import BatchSpec


def spec(*steps: dict[str, Any], **parameters: Any) -> BatchSpec:
    return BatchSpec.model_validate({"type": "batch", "parameters": parameters, "steps": [{"run": "m:f", **step} for step in steps]})


def started(batch: BatchSpec, **parameters: Any) -> tuple[Dag, VirtualClock]:
    clock = VirtualClock()
    return Dag(batch, new_run("run-1", "w", batch, parameters), clock), clock


def launched(dag: Dag) -> dict[str, int]:
    return {order.step: order.attempt for order in dag.advance() if isinstance(order, Launch)}


def finish(dag: Dag, step: str, attempt: int = 1, **outputs: Any) -> None:
    assert dag.started(step, attempt)
    assert dag.succeeded(step, attempt, outputs)


def statuses(run: RunState) -> dict[str, str]:
    return {name: state.status for name, state in run.steps.items()}


def test_independent_steps_start_together_and_a_join_waits_for_all() -> None:
    dag, _ = started(spec({"name": "a"}, {"name": "b"}, {"name": "c", "needs": ["a", "b"]}))
    assert launched(dag) == {"a": 1, "b": 1}
    assert dag.run.status == "running"
    finish(dag, "a")
    assert launched(dag) == {}
    finish(dag, "b")
    assert launched(dag) == {"c": 1}
    finish(dag, "c", score=0.5)
    assert launched(dag) == {}
    assert dag.finished
    assert dag.run.status == "succeeded"
    assert dag.run.outputs == {"score": 0.5}


def test_arguments_take_parameters_and_outputs_with_their_types() -> None:
    batch = spec(
        {"name": "a", "with": {"n": "${parameters.n}", "text": "run ${run.id}"}},
        {"name": "b", "needs": ["a"], "with": {"rows": "${steps.a.outputs.rows}"}},
        n=3,
    )
    dag, _ = started(batch, n=7)
    (order,) = dag.advance()
    assert isinstance(order, Launch)
    assert order.arguments == {"n": 7, "text": "run run-1"}
    finish(dag, "a", rows=[1, 2])
    (order,) = dag.advance()
    assert isinstance(order, Launch)
    assert order.arguments == {"rows": [1, 2]}


def test_an_output_that_is_not_there_fails_the_step_that_wants_it() -> None:
    dag, _ = started(spec({"name": "a"}, {"name": "b", "needs": ["a"], "with": {"x": "${steps.a.outputs.y}"}}))
    dag.advance()
    finish(dag, "a", z=1)
    assert dag.advance() == []
    assert dag.run.status == "failed"
    assert "steps.a.outputs.y" in dag.run.steps["b"].detail


def test_a_failed_attempt_is_repeated_after_a_backoff_that_doubles() -> None:
    dag, clock = started(spec({"name": "a", "retries": {"limit": 2, "backoff": "5s"}}))
    begin = clock.now()
    assert launched(dag) == {"a": 1}
    dag.started("a", 1)
    dag.failed("a", 1, "boom")
    assert dag.next_wake() == begin + 5
    assert "boom; retry 1 of 2 in 5 s" in dag.run.steps["a"].detail
    clock.advance(4.9)
    assert launched(dag) == {}
    clock.advance(0.1)
    assert launched(dag) == {"a": 2}
    dag.started("a", 2)
    dag.failed("a", 2, "boom")
    clock.advance(9.9)
    assert launched(dag) == {}
    clock.advance(0.1)
    assert launched(dag) == {"a": 3}
    dag.started("a", 3)
    dag.failed("a", 3, "boom")
    assert launched(dag) == {}
    assert dag.run.status == "failed"
    assert dag.run.detail == "a: boom (attempt 3 of 3)"


def test_a_failure_that_no_retry_can_mend_is_not_repeated() -> None:
    dag, _ = started(spec({"name": "a", "retries": {"limit": 5}}))
    dag.advance()
    dag.failed("a", 1, "no such module", retry=False)
    assert dag.advance() == []
    assert dag.run.status == "failed"


def test_a_failure_stops_those_that_need_it_and_lets_the_others_end() -> None:
    dag, _ = started(
        spec({"name": "a"}, {"name": "b"}, {"name": "c", "needs": ["a"]}, {"name": "d", "needs": ["c"]}, {"name": "e", "needs": ["b"]})
    )
    dag.advance()
    dag.failed("a", 1, "boom")
    assert dag.run.steps["c"].detail == "not run: it needs a, which failed"
    assert dag.run.steps["d"].detail == "not run: it needs c, which stopped"
    assert not dag.finished
    finish(dag, "b")
    assert launched(dag) == {"e": 1}
    finish(dag, "e", late=1)
    dag.advance()
    assert statuses(dag.run) == {"a": "failed", "b": "succeeded", "c": "stopped", "d": "stopped", "e": "succeeded"}
    assert dag.run.status == "failed"
    assert dag.run.detail == "a: boom"


def test_a_step_whose_node_falls_silent_is_given_up_after_its_timeout() -> None:
    dag, clock = started(spec({"name": "a", "timeout": "30s", "retries": {"limit": 1, "backoff": "1s"}}))
    dag.advance()
    clock.advance(1000)
    assert dag.advance() == [], "a step that waits for resources does not use up its time"
    dag.started("a", 1)
    clock.advance(30 + GRACE_SECONDS - 0.1)
    assert dag.advance() == []
    clock.advance(0.1)
    assert dag.advance() == [Kill(step="a", attempt=1)]
    assert "timed out after 30 s" in dag.run.steps["a"].detail
    assert not dag.succeeded("a", 1, {}), "what a given up attempt reports later is not heard"
    clock.advance(1)
    assert launched(dag) == {"a": 2}


def test_cancelling_kills_what_runs_and_does_not_begin_what_waits() -> None:
    dag, _ = started(spec({"name": "a"}, {"name": "b", "needs": ["a"]}))
    dag.advance()
    dag.started("a", 1)
    assert dag.cancel("by hand") == [Kill(step="a", attempt=1)]
    assert statuses(dag.run) == {"a": "stopped", "b": "stopped"}
    assert dag.run.status == "stopped"
    assert dag.run.detail == "by hand"
    assert not dag.succeeded("a", 1, {})
    assert dag.advance() == []
    assert dag.cancel("again") == []


@pytest.mark.parametrize("seen_running", [True, False])
def test_a_kept_run_goes_on_and_repeats_what_was_running_as_the_same_attempt(seen_running: bool) -> None:
    batch = spec({"name": "a"}, {"name": "b", "needs": ["a"]}, {"name": "c", "needs": ["b"]})
    dag, clock = started(batch)
    dag.advance()
    finish(dag, "a")
    dag.advance()
    if seen_running:
        dag.started("b", 1)
    kept = RunState.model_validate_json(dag.run.model_dump_json())
    again = Dag(batch, kept, clock)
    assert launched(again) == {"b": 1}
    finish(again, "b")
    assert launched(again) == {"c": 1}


def test_a_kept_run_still_waits_out_its_backoff() -> None:
    batch = spec({"name": "a", "retries": {"limit": 1, "backoff": "10s"}})
    dag, clock = started(batch)
    dag.advance()
    dag.started("a", 1)
    dag.failed("a", 1, "boom")
    again = Dag(batch, RunState.model_validate_json(dag.run.model_dump_json()), clock)
    assert launched(again) == {}
    clock.advance(10)
    assert launched(again) == {"a": 2}


def test_a_report_of_another_attempt_changes_nothing() -> None:
    dag, _ = started(spec({"name": "a"}))
    dag.advance()
    before = dag.run
    assert not dag.started("a", 2)
    assert not dag.succeeded("a", 0, {"x": 1})
    assert not dag.failed("a", 2, "boom")
    assert dag.run is before


def test_why_attempts_failed_is_kept_also_when_a_later_one_succeeds() -> None:
    dag, clock = started(spec({"name": "a", "retries": {"limit": 20, "backoff": "1ms"}}))
    for attempt in range(1, 13):
        assert launched(dag) == {"a": attempt}
        dag.started("a", attempt)
        dag.failed("a", attempt, "boom" if attempt < 12 else "x" * 600)
        clock.advance(60)
    launched(dag)
    finish(dag, "a", 13)
    state = dag.run.steps["a"]
    assert (state.status, state.detail) == ("succeeded", "")
    assert len(state.failures) == 10
    assert state.failures[0] == "attempt 3: boom"
    assert state.failures[-1] == f"attempt 12: {'x' * 500}…"
