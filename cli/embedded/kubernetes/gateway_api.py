"""The kinds of the Gateway API in a local cluster, for those who ask for them: definitions alone, which no controller follows."""

from pathlib import Path

from autonomic.cli.embedded.kubernetes import build

MODULE = build.Module("gateway-api", {}, pinned="sigs.k8s.io/gateway-api")


def version() -> str:
    """The version that is pinned."""
    return build.version(MODULE, build.DATA)


def definitions() -> str:
    """The definitions of the standard channel as one stream of YAML documents, fetched with their Go module.

    Raises:
        Permanent: Go is missing or too old, or the module cannot be had.
    """
    folder: Path = build.source(MODULE, build.DATA) / "config" / "crd" / "standard"
    return "\n---\n".join(file.read_text() for file in sorted(folder.glob("*.yaml")))
