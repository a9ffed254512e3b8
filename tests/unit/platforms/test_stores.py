"""The stores of a host: one in memory, and one in a file that outlives the process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.host.durable_store import SqliteStore
from autonomic.platforms.host.store import MemoryStore
from autonomic.seams.errors import Permanent


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "a folder" / "records.db")


def test_every_store_keeps_documents_by_key(store: Any) -> None:
    store.put("a/1", {"x": [1, None, "ü\ud800"]})
    store.put("a/1", {"x": 2})
    store.put("a/2", 3)
    store.put("b", 4)

    assert store.get("a/1") == {"x": 2}
    assert store.get("c") is None
    assert store.keys("a/") == ["a/1", "a/2"]
    assert store.put_new("a/2", 9) is False
    assert store.put_new("a/3", 9) is True
    store.delete("a/1")
    store.delete("a/1")
    assert store.keys("") == ["a/2", "a/3", "b"]
    assert store.get("a/2") == 3


def test_what_was_written_is_there_after_the_writer_was_killed(tmp_path: Path) -> None:
    writer = (
        "import os, signal, sys; from pathlib import Path;"
        "from autonomic.platforms.host.durable_store import SqliteStore;"
        "store = SqliteStore(Path(sys.argv[1])); store.put('kept', 1); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", writer, str(tmp_path / "records.db")], check=False)

    assert ended.returncode == -9
    assert SqliteStore(tmp_path / "records.db").get("kept") == 1


def test_a_file_that_is_no_store_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_text("not a database, but long enough to have a header of one " * 20)

    with pytest.raises(Permanent, match=r"records\.db cannot be used as the host's store.*Move it away"):
        SqliteStore(tmp_path / "records.db")
