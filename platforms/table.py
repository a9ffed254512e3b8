"""The platforms by their names, and what each can do."""

from collections.abc import Mapping

from autonomic.platforms.kubernetes.abilities import ABILITIES as KUBERNETES
from autonomic.platforms.ray.abilities import ABILITIES as RAY
from autonomic.platforms.simulated.abilities import ABILITIES as SIMULATED
from autonomic.seams.abilities import Abilities, Platforms
from autonomic.seams.errors import Permanent

ABILITIES: Mapping[str, Abilities] = {abilities.platform: abilities for abilities in (RAY, KUBERNETES, SIMULATED)}


def platforms(name: str | None = None) -> Platforms:
    """What documents for the platform `name` are checked against; without a name, only what no platform can do is refused.

    Raises:
        Permanent: there is no such platform.
    """
    if name is not None and name not in ABILITIES:
        raise Permanent(f"Unknown platform {name!r}; choose {', '.join(ABILITIES)}")
    return Platforms(ABILITIES[name] if name is not None else None, tuple(ABILITIES.values()))
