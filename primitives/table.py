"""All primitives by name, sorted, and what follows from their declarations."""

from typing import Any

from autonomic.primitives.base import Primitive
from autonomic.primitives.call import Call
from autonomic.primitives.delete import Delete
from autonomic.primitives.deploy import Deploy
from autonomic.primitives.notify import Notify
from autonomic.primitives.promote import Promote
from autonomic.primitives.reroute import Reroute
from autonomic.primitives.rescale import Rescale
from autonomic.primitives.reschedule import Reschedule
from autonomic.primitives.resize import Resize
from autonomic.primitives.retarget import Retarget
from autonomic.primitives.retrain import Retrain
from autonomic.primitives.rollback import Rollback
from autonomic.primitives.run import Run
from autonomic.primitives.stop import Stop
from autonomic.primitives.tune import Tune
from autonomic.primitives.upgrade import Upgrade

PRIMITIVES: dict[str, Primitive[Any]] = {
    primitive.name: primitive
    for primitive in (
        Call(),
        Delete(),
        Deploy(),
        Notify(),
        Promote(),
        Reroute(),
        Rescale(),
        Reschedule(),
        Resize(),
        Retarget(),
        Retrain(),
        Rollback(),
        Run(),
        Stop(),
        Tune(),
        Upgrade(),
    )
}
ARGUMENTS = {name: primitive.arguments for name, primitive in PRIMITIVES.items()}
"""The model of the arguments of each primitive."""
ADOPTED = frozenset(name for name, primitive in PRIMITIVES.items() if primitive.adopted)
"""What may be done to a workload that somebody else made, beside adopting and releasing it."""
NEEDS_PERSON = frozenset(name for name, primitive in PRIMITIVES.items() if primitive.needs_person)
"""What is never done without a person."""
