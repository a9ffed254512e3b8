"""The home of one machine: addresses that stay, who supervises it, and what cannot be a home."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autonomic.agents.settings import Settings
from autonomic.cli import doctor, home
from autonomic.cli.addresses import PARTS, Given, addresses, ignored
from autonomic.cli.embedded import leftovers
from autonomic.cli.main import app
from autonomic.seams.errors import Permanent
from autonomic.workflows.processes import free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my höme [red]"
    made.mkdir()
    return made


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def started(folder: Path, given: Given | None = None) -> Settings:
    settings = addresses(folder, given or Given())
    settings.save()
    return settings


def test_every_address_stays_over_restarts_and_what_a_person_wrote_stays_too(folder: Path) -> None:
    first = started(folder)
    path = folder / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "keep_days": 7, "journal_url": "postgresql://db/{agent}"}))

    second = started(folder)

    assert [getattr(second, f"{part}_url") for part in PARTS] == [getattr(first, f"{part}_url") for part in PARTS]
    assert (second.keep_days, second.journal_url) == (7, "postgresql://db/{agent}")


def test_no_two_parts_are_given_the_same_port(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(port for port in range(21_000, 21_020) for _ in range(3))
    monkeypatch.setattr("autonomic.cli.addresses.free_port", lambda: next(drawn))

    settings = started(folder, Given(front_port=21_001))

    assert len({getattr(settings, f"{part}_url") for part in PARTS}) == len(PARTS)


def test_a_free_port_is_none_that_the_system_gives_to_connections() -> None:
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert all(port < first_ephemeral for port in (free_port() for _ in range(20))) or first_ephemeral <= 20_000


def test_a_port_can_be_chosen_and_is_kept(folder: Path) -> None:
    port = free_port()

    assert started(folder, Given(front_port=port)).front_url == f"http://127.0.0.1:{port}"
    assert started(folder).front_url == f"http://127.0.0.1:{port}"


def test_settings_may_be_written_before_the_first_start(folder: Path) -> None:
    (folder / "settings.json").write_text(json.dumps({"use_mlflow": "https://mlflow.example.org/", "keep_days": 3}))

    settings = started(folder)

    assert (settings.mlflow_url, settings.keep_days) == ("https://mlflow.example.org", 3)
    assert settings.planner_url


def test_all_ports_that_others_have_taken_are_named_together_with_the_way_out(folder: Path, listener: int) -> None:
    first = started(folder)
    (folder / "settings.json").write_text(
        first.model_copy(
            update={"front_url": f"http://127.0.0.1:{listener}", "mlflow_url": f"http://127.0.0.1:{listener}"}
        ).model_dump_json()
    )

    with pytest.raises(Permanent) as refused:
        addresses(folder, Given())

    assert f"port {listener} of front is taken by another process" in str(refused.value)
    assert "--front-port" in str(refused.value)
    assert f"port {listener} is given to front and to mlflow" in str(refused.value)


def test_settings_that_are_not_valid_are_not_overwritten(folder: Path) -> None:
    (folder / "settings.json").write_text('{"front_urll": "x"}')

    with pytest.raises(Permanent, match=r"settings\.json is not valid: front_urll: Extra inputs"):
        addresses(folder, Given())

    assert (folder / "settings.json").read_text() == '{"front_urll": "x"}'


def test_what_is_there_already_is_used_until_a_part_of_our_own_is_asked_for_again(folder: Path) -> None:
    given = Given(mlflow="https://mlflow.example.org", prometheus="http://prom:9090", ray="10.0.0.1:6379")
    settings = started(folder, given)
    assert (settings.mlflow_url, settings.prometheus_url) == ("https://mlflow.example.org", "http://prom:9090")
    assert settings.ray_address == "10.0.0.1:6379"
    assert started(folder).mlflow_url == "https://mlflow.example.org"

    own = started(folder, Given(mlflow="embedded", prometheus="embedded", ray="embedded"))

    assert own.mlflow_url.startswith("http://127.0.0.1:")
    assert own.prometheus_url.startswith("http://127.0.0.1:")
    assert own.ray_address == own.use_ray == ""


def test_variables_that_are_ignored_are_named_with_the_option_that_would_use_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow:5000")
    monkeypatch.setenv("PROMETHEUS_URL", "http://prometheus:9090/")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")

    words = ignored(started(folder, Given(ray="10.0.0.2:6379", prometheus="http://prometheus:9090")))

    assert words == [
        "RAY_ADDRESS is set and ignored; 10.0.0.2:6379 is used",
        "MLFLOW_TRACKING_URI is set and ignored; give --mlflow http://me:***@mlflow:5000 to use what is there",
    ]


def test_nobody_supervises_a_home_whose_up_was_killed_whatever_has_its_number_now(folder: Path) -> None:
    (folder / "up.json").write_text(json.dumps({"pid": os.getpid(), "started_at": 0}))
    assert home.running_pid(folder) is None

    with (folder / "up.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert home.is_supervised(folder)
        assert home.running_pid(folder) == os.getpid()
    assert not home.is_supervised(folder)


def test_down_ends_what_a_killed_up_left_and_removes_its_folders(folder: Path) -> None:
    environment = {**os.environ, leftovers.MARK: str(folder)}
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    temporary = Path("/tmp") / f"autonomic-ray-{left.pid}"
    temporary.mkdir()
    (folder / "ray").mkdir()
    (folder / "ray" / "temp-dirs").write_text(f"{temporary}\n")
    (folder / "up.lock").touch()

    result = CliRunner().invoke(app, ["down", "--home", str(folder)])

    assert result.exit_code == 0, result.output
    assert left.wait(20) != 0
    assert not temporary.exists()
    # nothing is left to be stopped
    assert CliRunner().invoke(app, ["down", "--home", str(folder)]).exit_code == 3


def test_what_cannot_be_a_home_is_one_sentence_for_up_and_doctor(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    unusable = tmp_path / "file" / "home"

    for options in ([], ["--detach"]):
        result = CliRunner().invoke(app, ["up", "--home", str(unusable), *options])
        assert result.exit_code == 1
        assert f"{tmp_path / 'file'} is not a folder" in result.output.replace("\n", "")
        assert "Traceback" not in result.output
    check = next(check for check in doctor.examine(unusable) if check.name == "home")
    assert check.status == "missing"
    assert "is not a folder" in check.found


def test_a_file_system_that_takes_no_files_is_no_home_even_for_root() -> None:
    assert "nothing can be written" in home.unusable(Path("/sys/kernel/home"))


def test_names_that_look_like_markup_are_printed_as_they_are(folder: Path) -> None:
    result = CliRunner().invoke(app, ["down", "--home", str(folder)])

    assert f"Nothing runs in {folder}" in result.output
