"""Readings as a strategy sees them: judged for age, substituted where `missing:` allows it, grouped by label."""

from collections.abc import Mapping, Sequence

from autonomic.seams.reading import Reading, missing
from autonomic.seams.signal import Query
from autonomic.strategies.spec.strategy import Fallback, ReadingSpec, Strategy

Read = Mapping[str, Reading | Sequence[Reading]]
"""By name: one reading, or with `by` one for each value of that label."""


def queries_of(strategy: Strategy) -> tuple[Query, ...]:
    """What a strategy asks its signals, in the order of its readings."""
    return tuple(
        Query(
            strategy=strategy.name,
            name=name,
            target=strategy.spec.target,
            signal=spec.signal,
            args=spec.query,
            max_age_seconds=spec.max_age,
        )
        for name, spec in strategy.spec.readings.items()
    )


def fill(
    strategy: Strategy, readings: Read, last: Mapping[str, Reading], now: float
) -> tuple[dict[str, list[Reading]], dict[str, Reading]]:
    """What the strategy may judge by, and the good readings to remember for `missing: {last: …}`.

    A reading older than its `max_age` is missing. One that is missing is held, or substituted as `missing:` says (the
    reading's own before the strategy's); what is substituted is marked. `last` is what this function returned before.
    """
    filled: dict[str, list[Reading]] = {}
    remembered: dict[str, Reading] = {}
    for name, spec in strategy.spec.readings.items():
        policy = spec.missing if spec.missing is not None else strategy.spec.missing
        given = readings.get(name)
        several = [given] if isinstance(given, Reading) else list(given or ())
        if not several and label_of(spec) is None:
            several = [missing(now, spec.signal, "it was not read")]
        filled[name] = []
        for reading in several:
            key = _key(name, spec, reading)
            fresh = _aged(reading, spec, now)
            if fresh.status == "ok":
                filled[name].append(fresh)
                if isinstance(policy, Fallback) and policy.last is not None:
                    remembered[key] = fresh
            else:
                filled[name].append(_substitute(fresh, policy, last.get(key), now))
                if key in last:
                    remembered[key] = last[key]
    return filled, remembered


def fill_again(strategy: Strategy, readings: Mapping[str, Reading], seen: Mapping[str, Reading], now: float) -> dict[str, Reading]:
    """What a decision may judge by: `readings` read again for one event, which had `seen` good ones before."""
    specs = strategy.spec.readings
    last = {
        _key(name, specs[name], readings.get(name, reading)): reading
        for name, reading in seen.items()
        if name in specs and reading.status == "ok" and not reading.substituted
    }
    given = {name: readings.get(name, missing(now, spec.signal, "it was not read")) for name, spec in specs.items()}
    filled, _ = fill(strategy, given, last, now)
    return {name: several[0] for name, several in filled.items()}


def label_of(spec: ReadingSpec) -> str | None:
    """The label by which the reading comes in several, None where it is one."""
    by = spec.query.get("by")
    return by if isinstance(by, str) else None


def group(strategy: Strategy, filled: Mapping[str, Sequence[Reading]]) -> dict[tuple[tuple[str, str], ...], dict[str, Reading]] | None:
    """The readings of each label value that is present in all readings with `by`; one group under () without `by`.

    None where a reading with `by` could not be had at all, so that nothing is known about which values there are.
    """
    single: dict[str, Reading] = {}
    labelled: dict[str, dict[tuple[str, str], Reading]] = {}
    for name, spec in strategy.spec.readings.items():
        label = label_of(spec)
        several = filled.get(name, ())
        if label is None:
            single[name] = several[0]
            continue
        if any(reading.status != "ok" and label not in reading.labels for reading in several):
            return None
        labelled[name] = {(label, reading.labels[label]): reading for reading in several if label in reading.labels}
    if not labelled:
        return {(): single}
    first, *others = labelled.values()
    values = sorted(value for value in first if all(value in several for several in others))
    return {(value,): {**single, **{name: several[value] for name, several in labelled.items()}} for value in values}


def _key(name: str, spec: ReadingSpec, reading: Reading) -> str:
    label = label_of(spec)
    return name if label is None else f"{name}/{reading.labels.get(label, '')}"


def _aged(reading: Reading, spec: ReadingSpec, now: float) -> Reading:
    if reading.status == "ok" and spec.max_age is not None and now - reading.time > spec.max_age:
        return missing(
            reading.time, reading.source, f"it is {now - reading.time:.3g} s old, at most {spec.max_age:g} s are allowed", reading.labels
        )
    return reading


def _substitute(reading: Reading, policy: object, last: Reading | None, now: float) -> Reading:
    if not isinstance(policy, Fallback):
        return reading
    why = f"{reading.status}: {reading.detail}"
    if policy.fallback is not None:
        return reading.model_copy(
            update={"status": "ok", "value": policy.fallback, "time": now, "detail": f"fallback, because {why}", "substituted": True}
        )
    if policy.last is not None and last is not None and now - last.time <= policy.last:
        return last.model_copy(update={"detail": f"the last one, because {why}", "substituted": True})
    return reading
