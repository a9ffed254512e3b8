"""Whether a Ray cluster that is there already can be used: asked within seconds, without joining it or importing Ray."""

import os
import re
from pathlib import Path

import grpc

from autonomic.seams.errors import Permanent

_ADDRESS = re.compile(r"(?P<host>[^\s:/@]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")
# what Ray's own `ray health-check` comes to; any answer shows that the head node lives and lets us in
_METHOD = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_SECONDS = 5.0


def check_cluster(address: str, timeout_seconds: float = _SECONDS) -> None:
    """Asks the head node whether it lives, with the token that a driver of this process would show.

    Raises:
        Permanent: `address` is none, nobody answers there within the time, or the token is missing or wrong.
    """
    if not _ADDRESS.fullmatch(address):
        raise Permanent(
            f"Ray at {address} cannot be used: write HOST:PORT of its head node, for example 127.0.0.1:6379; ray:// is not supported"
        )
    token = _token()
    headers = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary(_METHOD)
        try:
            ask(b"", timeout=timeout_seconds, metadata=headers)
        except grpc.RpcError as refused:
            raise Permanent(f"Ray at {address} cannot be used: {_why(refused, token, timeout_seconds)}") from None


def _token() -> str:
    """As Ray looks for it.

    Raises:
        Permanent: token authentication is on, and there is no token where the environment says.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode not in ("", "token"):
        return ""
    if given := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return given
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    try:
        return (Path(named) if named else Path.home() / ".ray" / "auth_token").read_text().strip()
    except OSError as error:
        if named or mode:
            raise Permanent(f"Ray's token cannot be read: {error}; put it there, or name its file in RAY_AUTH_TOKEN_PATH") from None
        return ""


def _why(refused: grpc.RpcError, token: str, timeout_seconds: float) -> str:
    code = refused.code()  # pyright: ignore[reportAttributeAccessIssue]
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        if token:
            return "it does not take the token that RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token holds"
        return "it asks for a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"it does not answer within {timeout_seconds:g} s"
    return f"no head node of Ray answers there ({refused.details()})"  # pyright: ignore[reportAttributeAccessIssue]
