"""HAProxy's own language: the configuration file, the runtime commands and the tables that it prints. Pure."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from autonomic.seams.word import Word
from autonomic.workflows.serving.placement import Placement, slot_weights

# an address for slots that stand empty; nothing is ever sent there
_NOWHERE = ("127.0.0.1", 1)
_UNKNOWN = "no such service; write /WORKFLOW/SERVICE/v2/models/SERVICE/infer"
_FULL = "too many requests wait for this service; try again later"
# the statuses that HAProxy answers by itself, with HTML where it is not told otherwise; for what is no HTTP at all it has but its own page
_ERRORS = {
    400: "this is not a valid HTTP request",
    401: "this takes credentials",
    403: "this is not allowed",
    404: _UNKNOWN,
    405: "this method is not allowed here",
    407: "this takes credentials",
    408: "the request did not arrive in time",
    410: "this is gone",
    413: "the request is too large",
    421: "this service is not found under this name",
    422: "the request cannot be processed",
    425: "the request came too early; send it again",
    429: "too many requests; try again later",
    500: "the front failed while it answered",
    501: "this is not implemented",
    502: "the replica failed while it answered",
    503: "no replica could take the request in time",
    504: "the replica did not answer in time",
}
# bits of srv_admin_state
_MAINT = 0x01 | 0x02 | 0x20
_DRAIN = 0x08 | 0x10


class Server(Word):
    """What one slot is or shall be."""

    address: str
    port: int
    weight: int
    state: str


def wanted_servers(placement: Placement) -> dict[str, Server]:
    """Every slot of a service as it shall be."""
    weights = slot_weights(placement)
    servers: dict[str, Server] = {}
    for slot in placement.slots():
        replica = placement.replicas.get(slot)
        if replica is None:
            servers[slot] = Server(address=_NOWHERE[0], port=_NOWHERE[1], weight=1, state="maint")
        else:
            servers[slot] = Server(address=replica.address, port=replica.port, weight=weights[slot], state=replica.state)
    return servers


def commands(backend: str, actual: Mapping[str, Server], wanted: Mapping[str, Server]) -> list[str]:
    """The runtime commands that turn `actual` into `wanted`: first what takes away, then what adds.

    A slot that empties keeps its address, since requests may still be on their way over it.
    """
    gone: list[str] = []
    come: list[str] = []
    for slot, server in wanted.items():
        now = actual[slot]
        name = f"{backend}/{slot}"
        if server.state == "maint":
            if now.state != "maint":
                gone.append(f"set server {name} state maint")
            continue
        moved = (server.address, server.port) != (now.address, now.port)
        if moved:
            if now.state != "maint":
                gone.append(f"set server {name} state maint")
            come.append(f"set server {name} addr {server.address} port {server.port}")
        if server.weight != now.weight:
            come.append(f"set server {name} weight {server.weight}")
        if server.state == "drain" and (moved or now.state != "drain"):
            gone.append(f"set server {name} state drain")
        elif server.state == "ready" and (moved or now.state != "ready"):
            come.append(f"set server {name} state ready")
    return gone + come


def matches(actual: Mapping[str, Server], wanted: Mapping[str, Server]) -> bool:
    """Whether every slot is there and is as wanted (where an empty slot points to does not count)."""
    if actual.keys() != wanted.keys():
        return False
    return all(actual[slot].state == "maint" if server.state == "maint" else actual[slot] == server for slot, server in wanted.items())


def parse_servers(text: str) -> dict[str, dict[str, Server]]:
    """`show servers state`: the slots of each backend."""
    lines = [line for line in text.splitlines() if line.strip()]
    header = next((line for line in lines if line.startswith("# be_id")), None)
    if header is None:
        return {}
    names = header[2:].split()
    backends: dict[str, dict[str, Server]] = {}
    for line in lines[lines.index(header) + 1 :]:
        row = dict(zip(names, line.split(), strict=False))
        admin = int(row["srv_admin_state"])
        state = "maint" if admin & _MAINT else "drain" if admin & _DRAIN else "ready"
        server = Server(address=row["srv_addr"], port=int(row["srv_port"]), weight=int(row["srv_uweight"]), state=state)
        backends.setdefault(row["be_name"], {})[row["srv_name"]] = server
    return backends


def parse_stats(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """`show stat`: the rows by proxy and by server (or BACKEND, FRONTEND)."""
    table: dict[str, dict[str, dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(text.removeprefix("# "))):
        table.setdefault(row["pxname"], {})[row["svname"]] = row
    return table


def render(port: int, socket: Path, pidfile: Path, placements: Mapping[str, Placement], address: str = "127.0.0.1") -> str:
    """The configuration of one frontend and one backend a service."""
    errors = "\n".join(_error(status, message) for status, message in _ERRORS.items())
    routes = "\n".join(_route(name, placement) for name, placement in placements.items() if not placement.service.certificate)
    alone = "".join(_own_frontend(name, placement, address) for name, placement in placements.items() if placement.port)
    backends = "\n".join(_backend(name, placement) for name, placement in placements.items())
    return f"""# Written by autonomic whenever HAProxy loads it; replicas change meanwhile by the runtime API.
global
    pidfile {_word(pidfile)}
    stats socket {_word(socket)} mode 600 level admin expose-fd listeners
    stats timeout 30s
    fd-hard-limit 20000
    noreuseport
    nbthread 1
    ssl-default-bind-options ssl-min-ver TLSv1.2
    hard-stop-after 60s
    tune.bufsize 65536
    tune.maxrewrite 1024

defaults
    mode http
    option http-buffer-request
    option idle-close-on-response
    option redispatch 1
    option abortonclose
    option allbackups
    option splice-auto
    retries 20
    retry-on conn-failure empty-response
    http-reuse always
    balance roundrobin
    timeout connect 500ms
    timeout check 2s
    timeout client 60s
    timeout http-request 10s
    timeout http-keep-alive 60s
    default-server inter 250ms fastinter 100ms downinter 250ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down
{errors}

frontend front
    bind {address}:{port}
    http-request set-header X-Request-Start t=%[date(0,us)]
{routes}
    default_backend unknown
{alone}
backend unknown
    http-request return status 404 content-type application/json string '{_json(_UNKNOWN)}'

{backends}"""


def _json(error: str) -> str:
    return json.dumps({"error": error}, separators=(",", ":"))


def _word(path: Path | str) -> str:
    """A path as one word of the configuration, whatever characters it has."""
    return "".join(f"\\{letter}" if letter in " \\\"'#" else letter for letter in str(path))


def _error(status: int, message: str) -> str:
    return f"    http-error status {status} content-type application/json string '{_json(message)}'"


def _route(name: str, placement: Placement) -> str:
    prefix = _prefix(placement)
    return f"    use_backend {name} if {{ path_beg {prefix}v2/ }} or {{ path {prefix}v2 }}"


def _own_frontend(name: str, placement: Placement, address: str) -> str:
    certificate = placement.service.certificate
    tls = f" ssl crt {_word(certificate)} alpn http/1.1" if certificate else ""
    return f"""
frontend {name}--alone
    bind {address}:{placement.port}{tls}
    http-request set-header X-Request-Start t=%[date(0,us)]
    http-request set-header X-Forwarded-Proto {"https" if certificate else "http"}
    use_backend {name} if {{ path_beg /v2/ }} or {{ path /v2 }}
    default_backend unknown
"""


def _prefix(placement: Placement) -> str:
    return f"/{placement.service.workflow}/{placement.service.service}/"


def _backend(name: str, placement: Placement) -> str:
    service = placement.service
    milliseconds = max(1, round(service.timeout_seconds * 1000))
    refuse = f"http-request return status 503 content-type application/json hdr Retry-After 1 string '{_json(_FULL)}'"
    lines = [
        f"backend {name}",
        f"    {refuse} if {{ queue gt {service.max_queue - 1} }}",
        f"    http-request replace-path {_prefix(placement)}(.*) /\\1",
        "    option httpchk",
        "    http-check send meth GET uri /v2/health/ready ver HTTP/1.1 hdr Host replica",
        "    http-check expect status 200",
        f"    timeout queue {milliseconds}ms",
        f"    timeout server {milliseconds}ms",
        f"    default-server maxconn {service.max_in_flight}",
    ]
    for slot, server in wanted_servers(placement).items():
        flags = (" backup" if slot.startswith("b") else "") + ("" if server.state == "ready" else " disabled")
        lines.append(f"    server {slot} {server.address}:{server.port} check weight {server.weight}{flags}")
    return "\n".join(lines) + "\n"
