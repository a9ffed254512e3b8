"""What strategies wait for that nothing here sends: what `validate` and `apply` warn of. Pure."""

from collections.abc import Iterable

from autonomic.seams.event_types import EVENT_TYPES
from autonomic.strategies.spec.strategy import Strategy
from autonomic.strategies.triggers import triggers_of


def events_from_outside(strategies: Iterable[Strategy]) -> list[str]:
    """A warning for each custom event type that a strategy waits for and that no `call` of these strategies sends.

    Such events may come from elsewhere, so that this is no error.
    """
    strategies = list(strategies)
    sent = {str(action.args.get("type")) for strategy in strategies for action in strategy.spec.do if action.primitive == "call"}
    waiting: dict[str, list[str]] = {}
    for strategy in strategies:
        for trigger in triggers_of(strategy):
            if trigger.on.event and trigger.on.event not in sent | EVENT_TYPES.keys():
                waiting.setdefault(trigger.on.event, []).append(strategy.name)
    known = ", ".join(name.removeprefix("dev.autonomic.") for name in EVENT_TYPES)
    return [
        f"{', '.join(dict.fromkeys(names))}: waits for events of the custom type {event!r}, which nothing here sends; whoever does posts "
        f"them to /v1/events of the monitor. autonomic itself sends, under dev.autonomic.: {known}"
        for event, names in sorted(waiting.items())
    ]
