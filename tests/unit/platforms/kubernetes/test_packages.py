"""Code packages in ConfigMaps: what the cluster lost is written again from what the host keeps."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.kubernetes.objects.api import Api
from autonomic.platforms.kubernetes.objects.packages import Packages
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import Permanent


@pytest.fixture
def api(settings: KubernetesSettings) -> Iterator[Api]:
    made = Api(settings)
    yield made
    made.close()


def package(text: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as packed:
        packed.writestr("net.py", text)
    return written.getvalue()


def test_a_package_that_was_deleted_while_no_host_looked_is_written_again(api: Api, api_server: Any, tmp_path: Path) -> None:
    digest = Packages(api, ConfigMapStore(api, "autonomic"), "autonomic", tmp_path).add(package("x = 1"))
    before = dict(api_server.objects)
    api_server.objects.clear()

    # the host that comes now finds nothing on the cluster
    packages = Packages(api, ConfigMapStore(api, "autonomic"), "autonomic", tmp_path)
    assert packages.parts(digest) == 1
    assert set(api_server.objects) == set(before)


def test_a_package_that_nobody_has_is_refused_with_the_way_out(api: Api, tmp_path: Path) -> None:
    packages = Packages(api, ConfigMapStore(api, "autonomic"), "autonomic", tmp_path)
    with pytest.raises(Permanent, match="neither the cluster nor the host has the code package sha256-0; apply the workflow again"):
        packages.parts("sha256-0")
