"""The three programs that are not built from Go modules: runc, nft and a static busybox.

On Debian and Ubuntu they are taken out of the distribution's packages, into the cache; nothing is installed system-wide.
Elsewhere they have to be on PATH.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from autonomic.seams.errors import Permanent

TOOLS = {"runc": "usr/sbin/runc", "nft": "usr/sbin/nft", "busybox": "bin/busybox"}
# runc's libseccomp2 is there wherever apt is, which needs it itself
_PACKAGES = (
    *("runc", "busybox-static", "nftables"),
    *("libnftables1", "libnftnl11", "libmnl0", "libxtables12", "libjansson4", "libgmp10", "libedit2", "libbsd0", "libmd0"),
)
# which the machine itself has to have; every Debian has all but the first
NEEDED = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "setpriv": "util-linux", "mount": "mount"}


def install(target: Path, binaries: Path) -> str:
    """Puts the tools into `binaries` (with what they are made of in `target`); says where they are from.

    Raises:
        Permanent: they cannot be had; says what to install.
    """
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        _from_packages(target, binaries)
        return "taken from the distribution's packages"
    _from_path(binaries)
    return "found on PATH"


def _from_packages(target: Path, binaries: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="autonomic-packages-") as name:
        work = Path(name)
        # apt downloads as a user of its own, who may not enter a private folder
        work.chmod(0o777)
        download = ["apt-get", "download", "-qq", *_PACKAGES]
        if subprocess.run(download, cwd=work, capture_output=True, check=False).returncode:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
            done = subprocess.run(download, cwd=work, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Permanent(
                    f"`{' '.join(download)}` failed: {done.stderr.strip()[-500:]}. Let apt reach a mirror, and run `cluster up` again."
                )
        for package in work.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, target], check=True)
    libraries = {str(library.parent) for library in target.rglob("lib*.so.*")}
    for tool, path in TOOLS.items():
        found = next(option for option in (target / path, target / "usr" / path) if option.exists())
        _wrap(binaries / tool, found, sorted(libraries) if tool == "nft" else [])


def _from_path(binaries: Path) -> None:
    lacking = [tool for tool in TOOLS if not shutil.which(tool)]
    if lacking:
        raise Permanent(f"not found on PATH: {', '.join(lacking)}. Install runc, nftables and a static busybox, then run `up` again.")
    for tool in TOOLS:
        _wrap(binaries / tool, Path(str(shutil.which(tool))).resolve(), [])


def _wrap(link: Path, target: Path, libraries: list[str]) -> None:
    link.unlink(missing_ok=True)
    if not libraries:
        link.symlink_to(os.path.relpath(target, link.parent))
        return
    # relative to itself, for the cache's folder is renamed when it is complete
    folders = ":".join(f'"$here"/{os.path.relpath(library, link.parent)}' for library in libraries)
    program = f'"$here"/{os.path.relpath(target, link.parent)}'
    link.write_text(f'#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\nLD_LIBRARY_PATH={folders} exec {program} "$@"\n')
    link.chmod(0o755)
