"""How the planner reaches the cluster whose objects it puts in force."""

import json

from pydantic import ValidationError

from autonomic.agents.settings import Settings
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import Permanent


def cluster_of(settings: Settings) -> KubernetesSettings:
    """The cluster, the namespace and the credentials that HOME/kubernetes.json names.

    Raises:
        Permanent: the file is not there or not valid.
    """
    path = settings.home / "kubernetes.json"
    try:
        return KubernetesSettings.model_validate({**json.loads(path.read_text()), "home": settings.home})
    except OSError as missing:
        raise Permanent(f"custom_resources is on, but the settings of the cluster cannot be read: {missing}") from None
    except (ValueError, TypeError, ValidationError) as invalid:
        raise Permanent(f"custom_resources is on, but {path} is not valid: {invalid}") from None
