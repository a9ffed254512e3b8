"""What can be done with simulated workflows."""

from autonomic.platforms.host.planning import BATCH, ONLINE, SHAPING
from autonomic.seams.abilities import FEATURES, Abilities

ABILITIES = Abilities("simulated", ONLINE | BATCH | SHAPING, FEATURES)
