import asyncio
import collections
import datetime
import ipaddress
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from autonomic.seams.errors import Permanent, Retryable
from autonomic.workflows.serving import haproxy_process
from autonomic.workflows.serving.front import Front
from autonomic.workflows.serving.placement import FrontReplica, FrontService

BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 0, 0, 0]}]}


def service(**changes: Any) -> FrontService:
    return FrontService.model_validate({"workflow": "w", "service": "s", "slots": 4} | changes)


def replica(name: str, port: int, role: str = "champion", state: str = "ready") -> FrontReplica:
    return FrontReplica.model_validate({"id": name, "role": role, "address": "127.0.0.1", "port": port, "state": state})


def infer_url(front: Front) -> str:
    return front.url("w", "s") + "/v2/models/s/infer"


async def ask(front: Front, count: int, at_a_time: int = 8) -> list[httpx.Response]:
    places = asyncio.Semaphore(at_a_time)
    async with httpx.AsyncClient(timeout=120) as client:

        async def one() -> httpx.Response:
            async with places:
                return await client.post(infer_url(front), json=BODY)

        return await asyncio.gather(*(one() for _ in range(count)))


def outcome(answer: httpx.Response) -> str:
    return answer.json()["model_version"] if answer.status_code == 200 else str(answer.status_code)


def versions(answers: list[httpx.Response]) -> collections.Counter[str]:
    return collections.Counter(map(outcome, answers))


def wait_for(condition: Callable[[], bool], within_seconds: float = 120.0) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_callers_are_told_of_it_by_the_name_that_they_know_it_by(tmp_path: Path) -> None:
    assert Front(tmp_path / "own", 8080).url("w", "s") == "http://127.0.0.1:8080/w/s"
    known = Front(tmp_path / "known", 8080, address="0.0.0.0", public_url="http://front.ml.svc:8080")
    assert known.url("w", "s") == "http://front.ml.svc:8080/w/s"


@pytest.mark.parametrize("binary", [True, False])
def test_a_stock_client_is_answered_through_the_front(front: Front, serve: Callable[..., int], binary: bool) -> None:
    front.set_service(service(), [replica("x", serve())])
    client = triton.InferenceServerClient(front.url("w", "s").removeprefix("http://"))
    assert client.is_server_ready()
    assert client.is_model_ready("s")
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.array([[0, 1, 0, 0]], np.float32), binary_data=binary)
    wanted = triton.InferRequestedOutput("label", binary_data=binary)
    assert client.infer("s", [tensor], outputs=[wanted]).as_numpy("label").tolist() == [1]
    client.close()


def test_traffic_is_split_by_the_weights(front: Front, serve: Callable[..., int]) -> None:
    champions = [replica(f"c{n}", serve(model_version="1", max_in_flight=16)) for n in range(2)]
    canary = replica("k", serve(model_version="2", max_in_flight=16), "canary")
    backup = replica("b", serve(model_version="0"), "backup")
    everyone = [*champions, canary, backup]
    front.set_service(service(weights={"champion": 90, "canary": 10}, max_in_flight=16), everyone)
    counted = versions(asyncio.run(ask(front, 2000)))
    assert set(counted) == {"1", "2"}
    assert abs(counted["2"] / 2000 - 0.10) < 0.01

    front.set_service(service(weights={"champion": 0, "canary": 100}, max_in_flight=16), everyone)
    assert versions(asyncio.run(ask(front, 100))) == {"2": 100}
    front.set_service(service(weights={"champion": 50, "backup": 50}, max_in_flight=16), everyone)
    counted = versions(asyncio.run(ask(front, 400)))
    assert set(counted) == {"0", "1"}
    assert abs(counted["0"] / 400 - 0.5) < 0.02


def test_the_backup_takes_over_when_all_champions_are_killed(front: Front, spawn: Callable[..., Any], serve: Callable[..., int]) -> None:
    processes = [spawn(model_version="1") for _ in range(2)]
    champions = [replica(f"c{n}", process.port()) for n, process in enumerate(processes)]
    front.set_service(service(), [*champions, replica("b", serve(model_version="0"), "backup")])
    assert versions(asyncio.run(ask(front, 20))) == {"1": 20}

    answers: list[str] = []
    stop = threading.Event()

    def stream() -> None:
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                try:
                    answers.append(outcome(client.post(infer_url(front), json=BODY)))
                except httpx.TransportError:
                    answers.append("lost")

    callers = [threading.Thread(target=stream) for _ in range(3)]
    for caller in callers:
        caller.start()
    wait_for(lambda: answers.count("1") >= 20)
    for process in processes:
        process.process.kill()
    wait_for(lambda: answers.count("0") >= 20)
    stop.set()
    for caller in callers:
        caller.join()
    counted = collections.Counter(answers)
    # at most those that were being computed at that moment
    assert len(answers) - counted["0"] - counted["1"] <= 2, counted
    down = {"c0": "down", "c1": "down", "b": "up"}
    wait_for(lambda: {server.id: server.state for server in front.stats()["w", "s"].servers} == down)

    again = spawn(model_version="1")
    front.set_service(service(), [replica("c2", again.port()), replica("b", 1, "backup")])
    assert versions(asyncio.run(ask(front, 20))) == {"1": 20}


def test_a_new_replica_takes_those_who_wait_at_once(front: Front, serve: Callable[..., int]) -> None:
    slow = serve(model_version="1", device_time_seconds=0.4)
    front.set_service(service(), [replica("x", slow)])
    helper = replica("y", serve(model_version="2"))

    async def crowd() -> collections.Counter[str]:
        waiting = asyncio.ensure_future(ask(front, 12, at_a_time=12))
        while (stats := (await asyncio.to_thread(front.stats))["w", "s"]).queued < 9:
            assert not waiting.done()
            await asyncio.sleep(0.02)
        assert stats.in_flight <= 1
        alone = await asyncio.to_thread(front.stats_of, "w", "s")
        assert alone is not None
        assert (alone.queued, [server.id for server in alone.servers]) == (stats.queued, ["x"])
        assert await asyncio.to_thread(front.stats_of, "w", "other") is None
        await asyncio.to_thread(front.set_service, service(), [replica("x", slow), helper])
        return versions(await waiting)

    counted = asyncio.run(crowd())
    # all but those that the slow one had and may have taken meanwhile
    assert counted["2"] >= 7
    assert counted["1"] + counted["2"] == 12


def test_a_drained_replica_finishes_and_gets_nothing_new(front: Front, serve: Callable[..., int]) -> None:
    front.set_service(service(), [replica("x", serve(model_version="1", device_time_seconds=0.5))])
    other = replica("y", serve(model_version="2"))

    async def scene() -> tuple[int, collections.Counter[str]]:
        begun = asyncio.ensure_future(ask(front, 1))
        await asyncio.sleep(0.2)
        current = front.services()["w", "s"][1]
        await asyncio.to_thread(front.set_service, service(), [*current, other])
        await asyncio.to_thread(front.drain, "w", "s", "x")
        rest = versions(await ask(front, 10))
        return (await begun)[0].status_code, rest

    assert asyncio.run(scene()) == (200, collections.Counter({"2": 10}))


def test_reloads_lose_no_request(front: Front, serve: Callable[..., int]) -> None:
    port = serve(max_in_flight=8)
    front.set_service(service(max_in_flight=8), [replica("x", port)])

    async def scene() -> tuple[collections.Counter[str], int]:
        asking = asyncio.ensure_future(ask(front, 600, at_a_time=6))
        reloads = 0
        while not asking.done() and reloads < 10:
            other = FrontService(workflow="w", service=f"other-{reloads}")
            await asyncio.to_thread(front.set_service, other, [replica("o", port)])
            reloads += 1
            await asyncio.sleep(0.02)
        return versions(await asking), reloads

    counted, reloads = asyncio.run(scene())
    assert counted == {"3": 600}
    assert reloads >= 3
    assert httpx.get(front.url("w", "other-0") + "/v2").status_code == 200
    front.remove_service("w", "other-0")
    assert httpx.get(front.url("w", "other-0") + "/v2").status_code == 404


def reloads(home: Path) -> int:
    """How often HAProxy has loaded its configuration again, as its master tells it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(home / "master.sock"))
        connection.sendall(b"show proc\n")
        connection.shutdown(socket.SHUT_WR)
        told = connection.makefile().read()
    return next(int(line.split()[2]) for line in told.splitlines() if line.split()[1:2] == ["master"])


def test_services_that_come_and_go_at_once_are_all_there_and_share_reloads(front: Front, serve: Callable[..., int], tmp_path: Path) -> None:
    port = serve()
    names = [f"s{number}" for number in range(40)]
    home = tmp_path / "front"
    before = reloads(home)

    def put(name: str) -> None:
        front.set_service(service(service=name), [replica(name, port)])
        # who comes back is in force
        assert httpx.post(front.url("w", name) + "/v2/models/s/infer", json=BODY, trust_env=False).status_code == 200

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(put, names))
    came = reloads(home) - before
    assert 1 <= came < 40
    assert {name for _, name in front.services()} == set(names) == {name for _, name in front.stats()}
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda name: front.remove_service("w", name), names[1:]))
    assert reloads(home) - before - came < 39
    assert [name for _, name in front.services()] == ["s0"] == [name for _, name in Front(tmp_path / "front").services()]
    assert httpx.get(front.url("w", "s1") + "/v2").status_code == 404


def test_a_service_that_haproxy_refuses_keeps_no_other_out(front: Front, serve: Callable[..., int], tmp_path: Path) -> None:
    port = serve()
    front.set_service(service(service="old"), [replica("old", port)])
    (tmp_path / "bad.pem").write_text("no certificate")
    bad = service(service="old", alone=True, certificate=str(tmp_path / "bad.pem"))
    good = [service(service=f"s{number}") for number in range(8)]
    failed: list[str] = []

    def put(one: FrontService) -> None:
        try:
            front.set_service(one, [replica(one.service, port)])
        except Permanent as refused:
            failed.append(f"{one.service}: {refused}")

    for _ in range(3):
        failed.clear()
        with ThreadPoolExecutor(9) as pool:
            list(pool.map(put, [*good[:4], bad, *good[4:]]))
        assert len(failed) == 1
        assert failed[0].startswith("old: HAProxy refuses its new configuration")
        assert "bad.pem" in failed[0]
        # it is as it was, and the others are there
        for name in ("old", *(one.service for one in good)):
            assert httpx.post(front.url("w", name) + "/v2/models/s/infer", json=BODY, trust_env=False).status_code == 200
        assert Front(tmp_path / "front").services() == front.services()
        for one in good:
            front.remove_service("w", one.service)


def test_what_haproxy_did_not_hear_is_told_when_it_answers_again(front: Front, serve: Callable[..., int], tmp_path: Path) -> None:
    port = serve()
    front.set_service(service(), [replica("one", port)])
    master = tmp_path / "front" / "master.sock"
    hidden = master.rename(tmp_path / "hidden.sock")
    with pytest.raises(Retryable, match="does not answer"):
        front.set_service(service(service="late"), [replica("late", port)])
    assert httpx.get(front.url("w", "late") + "/v2").status_code == 404
    hidden.rename(master)
    # the same again, as whoever was told to try again does
    front.set_service(service(service="late"), [replica("late", port)])
    assert httpx.get(front.url("w", "late") + "/v2").status_code == 200


def test_waiting_in_the_front_counts_in_the_histogram(front: Front, serve: Callable[..., int]) -> None:
    port = serve(device_time_seconds=0.3)
    front.set_service(service(), [replica("x", port)])
    assert versions(asyncio.run(ask(front, 4))) == {"3": 4}
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    (total,) = [float(line.split()[1]) for line in text.splitlines() if line.startswith("autonomic_request_duration_seconds_sum")]
    # 0.3 + 0.6 + 0.9 + 1.2
    assert total > 2.9


def test_who_waits_too_long_or_finds_the_queue_full_is_told_in_json(front: Front, serve: Callable[..., int]) -> None:
    # nobody else is served while the first one is, however slowly the others come
    front.set_service(service(timeout_seconds=1.5, max_queue=2), [replica("x", serve(device_time_seconds=3))])

    async def scene() -> list[httpx.Response]:
        return await ask(front, 8, at_a_time=8)

    answers = asyncio.run(scene())
    counted = versions(answers)
    assert counted["503"] >= 5
    assert all(answer.json()["error"] for answer in answers if answer.status_code != 200)
    assert any("too many" in answer.json()["error"] for answer in answers if answer.status_code == 503)


# longer than a UNIX socket's path may be, and with what HAProxy reads as more than a name
@pytest.mark.parametrize("name", ["deep" * 30, "my höme, #1 'x' $y"])
def test_the_front_outlives_its_starter_and_comes_back_after_a_crash(serve: Callable[..., int], tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    first = Front(home)
    port = first.start()
    try:
        first.set_service(service(), [replica("x", serve())])
        second = Front(home)
        assert second.start() == port
        assert second.services() == first.services()
        assert versions(asyncio.run(ask(second, 3))) == {"3": 3}
        assert not second.ensure()

        os.kill(int((home / "haproxy.pid").read_text()), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not (why := second.ensure()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert why == "HAProxy had ended"
        assert second.port == port
        assert versions(asyncio.run(ask(second, 3))) == {"3": 3}
    finally:
        first.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(first.url("w", "s"))
    # the folder of its sockets, where that is not the home, is gone too
    assert not second.sockets.exists() or second.sockets == home.resolve()


def test_a_front_that_lives_and_does_not_answer_is_killed_and_started_again(
    front: Front, serve: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.set_service(service(), [replica("x", serve())])
    monkeypatch.setattr("autonomic.workflows.serving.front.FROZEN_SECONDS", 0.0)
    config = str(tmp_path / "front" / "haproxy.cfg").encode()
    frozen = haproxy_process._processes(config)
    assert len(frozen) >= 2, "a master and its worker"
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    for _ in range(2):
        assert not front.ensure(), "one that is slow once is left alone"
    assert "HAProxy did not answer" in front.ensure()
    assert not set(frozen) & set(haproxy_process._processes(config))
    assert versions(asyncio.run(ask(front, 3))) == {"3": 3}


def test_a_port_that_is_taken_is_a_clear_error(front: Front, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=rf"(?s)does not start: .*cannot bind .*:{front.port}"):
        Front(tmp_path / "second", port=front.port).start()


def test_a_service_alone_has_a_port_of_its_own_and_with_a_certificate_answers_nothing_but_tls(
    front: Front, serve: Callable[..., int], tmp_path: Path
) -> None:
    members = [replica("one", serve(model_version="1"))]
    front.set_service(service(), members)
    assert front.own_port("w", "s") == 0
    front.set_service(service(alone=True), members)
    port = front.own_port("w", "s")
    assert port not in (0, front.port)
    for url in (infer_url(front), f"http://127.0.0.1:{port}/v2/models/s/infer"):
        assert httpx.post(url, json=BODY, trust_env=False).status_code == 200
    assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 404
    pem = tmp_path / "both.pem"
    trusting = certify(pem)
    front.set_service(service(alone=True, certificate=str(pem)), members)
    # the port stays, also for who comes after a restart
    assert (front.own_port("w", "s"), Front(tmp_path / "front").own_port("w", "s")) == (port, port)
    assert front.url("w", "s") == f"https://127.0.0.1:{port}"
    assert httpx.post(infer_url(front), json=BODY, verify=trusting, trust_env=False).json()["model_version"] == "1"
    assert httpx.post(f"http://127.0.0.1:{front.port}/w/s/v2/models/s/infer", json=BODY, trust_env=False).status_code == 404
    with pytest.raises(httpx.HTTPError):
        httpx.post(infer_url(front).replace("https", "http"), json=BODY, trust_env=False)
    # a renewed certificate is taken over without a lost request, and who trusts the old one alone is turned away
    renewed = certify(pem)
    front.reload()
    wait_for(lambda: _is_trusted(front, renewed))
    assert not _is_trusted(front, trusting)
    front.set_service(service(), members)
    assert front.own_port("w", "s") == 0
    assert httpx.post(infer_url(front), json=BODY, trust_env=False).status_code == 200


def _is_trusted(front: Front, trusting: ssl.SSLContext) -> bool:
    try:
        return httpx.post(infer_url(front), json=BODY, verify=trusting, trust_env=False).status_code == 200
    except httpx.ConnectError:
        return False


def certify(path: Path) -> ssl.SSLContext:
    """Writes a new certificate for 127.0.0.1 and its key into one file; who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(pem + key.private_bytes(*form))
    return ssl.create_default_context(cadata=pem.decode())


def test_a_slash_at_the_end_of_an_address_changes_nothing_through_the_front(front: Front, serve: Callable[..., int]) -> None:
    front.set_service(service(), [replica("x", serve())])
    base = front.url("w", "s")
    for path in ("/v2", "/v2/", "/v2/models/s/", "/v2/health/ready/"):
        assert httpx.get(base + path, timeout=60).status_code == 200
    for end in ("", "/"):
        assert httpx.post(f"{infer_url(front)}{end}", json=BODY, timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /w/s/v2 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nshort", 408),
        (b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        (b"GET /w/s/v2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 503),
    ],
)
def test_the_fronts_own_answers_are_json(front: Front, sent: bytes, status: int) -> None:
    front.set_service(service(timeout_seconds=0.2), [])
    with socket.create_connection(("127.0.0.1", front.port), 60) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, content = received.partition(b"\r\n\r\n")
    assert head.split()[1] == str(status).encode()
    assert b"content-type: application/json" in head.lower()
    assert json.loads(content)["error"]
