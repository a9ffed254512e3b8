import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from autonomic.workflows.serving import haproxy
from autonomic.workflows.serving.placement import FrontReplica, FrontService, place

SERVICE = FrontService(workflow="w", service="s", slots=2, max_in_flight=3, timeout_seconds=1.5)


def server(state: str = "ready", port: int = 9001, weight: int = 1) -> haproxy.Server:
    return haproxy.Server(address="127.0.0.1", port=port, weight=weight, state=state)


def carry_out(actual: dict[str, haproxy.Server], lines: list[str]) -> dict[str, haproxy.Server]:
    """What HAProxy would have after the commands."""
    result = dict(actual)
    for line in lines:
        words = line.split()
        slot = words[2].split("/")[1]
        change: dict[str, object] = {"state": words[4]} if words[3] == "state" else {}
        if words[3] == "weight":
            change = {"weight": int(words[4])}
        if words[3] == "addr":
            change = {"address": words[4], "port": int(words[6])}
        result[slot] = result[slot].model_copy(update=change)
    return result


servers = st.builds(server, st.sampled_from(["ready", "drain", "maint"]), st.integers(9001, 9003), st.integers(0, 2))


@given(st.dictionaries(st.sampled_from(["a1", "a2", "b1"]), st.tuples(servers, servers)))
def test_the_commands_lead_from_what_is_to_what_shall_be(slots: dict[str, tuple[haproxy.Server, haproxy.Server]]) -> None:
    actual = {slot: pair[0] for slot, pair in slots.items()}
    wanted = {slot: pair[1] for slot, pair in slots.items()}
    after = carry_out(actual, haproxy.commands("w--s", actual, wanted))
    assert haproxy.matches(after, wanted)
    assert haproxy.commands("w--s", after, wanted) == []


def test_nothing_is_commanded_where_nothing_changes() -> None:
    assert haproxy.commands("w--s", {"a1": server()}, {"a1": server()}) == []


def test_a_slot_gets_its_address_before_it_gets_traffic() -> None:
    assert haproxy.commands("w--s", {"a1": server("maint", 1)}, {"a1": server(weight=7)}) == [
        "set server w--s/a1 addr 127.0.0.1 port 9001",
        "set server w--s/a1 weight 7",
        "set server w--s/a1 state ready",
    ]


def test_slots_are_read_with_their_administrative_state() -> None:
    text = (
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_port\n"
        "3 w--s 1 a1 127.0.0.1 2 0 9 1 9001\n3 w--s 2 a2 127.0.0.1 0 5 1 1 1\n3 w--s 3 b1 127.0.0.1 2 8 0 1 9002\n"
    )
    assert haproxy.parse_servers(text) == {
        "w--s": {"a1": server(weight=9), "a2": server("maint", port=1), "b1": server("drain", port=9002, weight=0)}
    }
    assert haproxy.parse_servers("Can't find backend.\n") == {}


def test_the_file_says_what_the_service_asks() -> None:
    replicas = [
        FrontReplica(id="x", role="champion", address="127.0.0.1", port=9001),
        FrontReplica(id="y", role="backup", address="127.0.0.1", port=9002),
    ]
    text = haproxy.render(8000, Path("/h/s.sock"), Path("/h/pid"), {SERVICE.name: place(None, SERVICE, replicas)})
    assert "bind 127.0.0.1:8000\n" in text
    assert "timeout queue 1500ms\n" in text
    assert "default-server maxconn 3\n" in text
    assert "server a1 127.0.0.1:9001 check weight 1\n" in text
    assert "server b1 127.0.0.1:9002 check weight 1 backup\n" in text
    assert "server a2 127.0.0.1:1 check weight 1 disabled\n" in text


def test_a_service_that_stands_alone_has_a_port_of_its_own_and_with_a_certificate_no_other() -> None:
    alone = place(None, SERVICE.model_copy(update={"alone": True}), []).model_copy(update={"port": 7443})
    secret = alone.model_copy(update={"service": alone.service.model_copy(update={"certificate": "/c.pem"})})
    plain = haproxy.render(80, Path("/s"), Path("/p"), {"w--s": alone}, "10.0.0.1")
    assert "bind 10.0.0.1:7443\n" in plain
    assert "use_backend w--s if { path_beg /w/s/v2/ }" in plain
    by_tls = haproxy.render(80, Path("/s"), Path("/p"), {"w--s": secret}, "10.0.0.1")
    assert "bind 10.0.0.1:7443 ssl crt /c.pem alpn http/1.1\n" in by_tls
    assert "path_beg /w/s/v2/ " not in by_tls
    assert "--alone" not in haproxy.render(80, Path("/s"), Path("/p"), {"w--s": place(None, SERVICE, [])})


def test_no_status_of_haproxys_own_is_answered_in_html() -> None:
    """The statuses of `http-error` in HAProxy's manual that are errors: for each it has a page of its own."""
    text = haproxy.render(8000, Path("/run/s"), Path("/run/p"), {})
    own = {400, 401, 403, 404, 405, 407, 408, 410, 413, 421, 422, 425, 429, 500, 501, 502, 503, 504}
    lines = [line.split(maxsplit=6) for line in text.splitlines() if line.strip().startswith("http-error")]
    assert {int(words[2]) for words in lines} == own
    assert all(words[4] == "application/json" and json.loads(words[6].strip("'"))["error"] for words in lines)
