"""All primitives by name, sorted."""

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
    "call": Call(),
    "delete": Delete(),
    "deploy": Deploy(),
    "notify": Notify(),
    "promote": Promote(),
    "reroute": Reroute(),
    "rescale": Rescale(),
    "reschedule": Reschedule(),
    "resize": Resize(),
    "retarget": Retarget(),
    "retrain": Retrain(),
    "rollback": Rollback(),
    "run": Run(),
    "stop": Stop(),
    "tune": Tune(),
    "upgrade": Upgrade(),
}
