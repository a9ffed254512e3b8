from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.workflows.runs.capped_log import CappedLog, read_capped_log


@given(sizes=st.lists(st.integers(0, 300), max_size=30))
def test_the_beginning_and_the_end_are_kept_and_the_gap_is_counted(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = CappedLog(path, segment_bytes=100)
    text = ""
    for number, size in enumerate(sizes):
        part = chr(97 + number % 26) * size
        text += part
        log.write(part.encode())
    log.close()
    read = read_capped_log(path, segment_bytes=100)
    assert sum(file.stat().st_size for file in path.parent.iterdir()) <= 300
    if len(text) <= 300:
        assert read == text
    else:
        head, rest = read.split("\n[autonomic: ")
        count, tail = rest.split(" bytes are left out here]\n")
        assert text.startswith(head)
        assert text.endswith(tail)
        assert len(head) == 100
        assert len(tail) > 100
        assert len(head) + int(count) + len(tail) == len(text)


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_capped_log(tmp_path / "log") == ""
