"""What can be done with workflows on Kubernetes."""

from autonomic.platforms.host.planning import BATCH, ONLINE, SHAPING
from autonomic.primitives.table import ADOPTED
from autonomic.seams.abilities import FEATURES, Abilities

ABILITIES = Abilities("kubernetes", ONLINE | BATCH | SHAPING | ADOPTED, FEATURES - {"parts-of-gpus"}, adopts=True)
