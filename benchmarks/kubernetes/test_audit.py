"""How an audit log is read while it grows and is rotated."""

import json
from pathlib import Path

from benchmarks.kubernetes.audit import AuditLog


def line(name: str) -> str:
    entry = {
        "user": {"username": "somebody"},
        "verb": "patch",
        "objectRef": {"resource": "deployments", "namespace": "n", "name": name, "subresource": "scale"},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-01-01T00:00:00.250000Z",
        "stageTimestamp": "2026-01-01T00:00:00.500000Z",
    }
    return json.dumps(entry) + "\n"


def test_what_comes_is_read_once_also_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text(line("before"))
    log = AuditLog(path)
    assert log.read() == []
    half = line("second")
    with path.open("a") as file:
        file.write(line("first") + half[:20])
        file.flush()
        assert [asked.name for asked in log.read()] == ["first/scale"]
        file.write(half[20:])
    path.rename(tmp_path / "audit-1.log")
    path.write_text(line("third"))
    found = log.read()
    assert [asked.name for asked in found] == ["second/scale", "third/scale"]
    assert found[0].answered_at - found[0].received_at == 0.25
    assert log.read() == []
    log.close()
