"""What can be done with workflows on Ray."""

from autonomic.platforms.host.planning import BATCH, ONLINE
from autonomic.seams.abilities import Abilities

ABILITIES = Abilities("ray", ONLINE | BATCH, frozenset({"parts-of-gpus"}))
