"""Names and labels of what is made on the cluster. Pure."""

import hashlib
import re
from collections.abc import Mapping

PREFIX = "autonomic.dev"
MANAGED = {"app.kubernetes.io/managed-by": "autonomic"}
# a pod's name is its Deployment's and two parts of 10 and 5 characters, in at most 63
_LONGEST_NAME = 46
_LONGEST_LABEL = 63


def digest(text: str, length: int = 8) -> str:
    """The first digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def dns_name(text: str, longest: int = _LONGEST_NAME) -> str:
    """A name for objects, the same for the same text; as it stands where Kubernetes allows it, else cut and with a digest."""
    plain = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    # the name of a Service begins with a letter
    if not plain[:1].isalpha():
        plain = f"n{plain}"
    if plain == text and len(plain) <= longest:
        return plain
    return f"{plain[: longest - 9].rstrip('-')}-{digest(text)}".lstrip("-")


def label_value(text: str) -> str:
    """A text as the value of a label: as it stands where Kubernetes allows it, else cut and with a digest."""
    if len(text) <= _LONGEST_LABEL and re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", text):
        return text
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", text)[: _LONGEST_LABEL - 9].strip("-")
    return f"{plain}-{digest(text)}".lstrip("-")


def labels(installation: str, **own: str) -> dict[str, str]:
    """The labels of an object: whose it is, and `autonomic.dev/NAME` for each of `own`."""
    return {**MANAGED, f"{PREFIX}/installation": installation, **{f"{PREFIX}/{name}": label_value(value) for name, value in own.items()}}


def own_labels(installation: str, component: str, **own: str) -> dict[str, str]:
    """The labels of what belongs to no workflow: the memory, code packages, tokens."""
    about = {"name": "autonomic", "instance": installation, "component": component, "part-of": "autonomic", "version": _version()}
    return {**{f"app.kubernetes.io/{name}": value for name, value in about.items()}, **labels(installation, **own)}


def recommended(name: str, instance: str, component: str, workflow: str) -> dict[str, str]:
    """The labels `app.kubernetes.io/*` of what is made for a workflow."""
    about = {"name": label_value(name), "instance": instance, "component": label_value(component), "part-of": label_value(workflow)}
    return {f"app.kubernetes.io/{key}": value for key, value in about.items()}


def version_label() -> dict[str, str]:
    """The label with the version of this product. Pods have none: another version shall not start them anew."""
    return {"app.kubernetes.io/version": _version()}


def _version() -> str:
    from autonomic import __version__

    return label_value(__version__)


def selector(wanted: Mapping[str, str], *present: str) -> str:
    """A label selector: these labels with these values, and those that must be `present`."""
    return ",".join([*(f"{name}={value}" for name, value in wanted.items()), *present])
