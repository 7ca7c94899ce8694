"""Nothing reaches the network: the environment that says so to every library, and a guard that enforces it.

``set_environment`` must run before any other import of the program, because the libraries read these variables once,
when they are imported. ``forbid_network`` refuses every connection, name look-up and listening socket but loopback's,
in this process; docs/security.md says what that is not.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

OFFLINE_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_HOST_IP": "127.0.0.1",  # else vLLM asks the network which address this machine has
    "TOKENIZERS_PARALLELISM": "false",
}

_guarded = False


def set_environment() -> None:
    """Tell every library to stay offline, whatever the user's shell says."""
    os.environ.update(OFFLINE_ENVIRONMENT)


def forbid_network() -> None:
    """Refuse every Python-level connection, name look-up and listening but loopback, for the life of this process.

    Raises (in whoever tries):
        PermissionError: with the address, or the kind of socket, that was asked for.
    """
    global _guarded
    if not _guarded:
        sys.addaudithook(_audit)
        _refuse_names()
        _guarded = True


def _refuse_names() -> None:
    """Refuse names in addresses before the system looks them up: the audit's event of a connection comes after that."""
    import socket

    def guarded(name: str) -> Callable[..., Any]:
        method = getattr(socket.socket, name)

        @wraps(method)
        def call(self: socket.socket, *arguments: Any) -> Any:
            for address in arguments:
                is_address = isinstance(address, tuple) and len(address) in (2, 4) and isinstance(address[1], int)
                if is_address and isinstance(address[0], str | bytes) and not is_loopback(address[0]):
                    raise PermissionError(_refusal(f"socket.{name}", address[0]))
            return method(self, *arguments)

        return call

    for name in ("connect", "connect_ex", "bind", "sendto", "sendmsg"):
        setattr(socket.socket, name, guarded(name))


def listen_on_loopback() -> None:
    """Have Python's sockets that ask for every address take loopback's: vLLM looks for free ports in that way."""
    import socket

    refused = socket.socket.bind

    def bind(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and is_wildcard(address[0]):
            address = ("::1" if self.family == socket.AF_INET6 else "127.0.0.1", *address[1:])
        refused(self, address)

    socket.socket.bind = bind  # type: ignore[method-assign,assignment]


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.__new__":
        _check_kind(*arguments[1:])
        return
    if event == "socket.bind":
        _check_listening(arguments[1])
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a Unix socket's address is a str
    elif event == "socket.getnameinfo":
        host = arguments[0][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if host is not None and not is_loopback(host):
        raise PermissionError(_refusal(event, host))


def _refusal(event: str, host: object) -> str:
    return f"offline: refused {event} to {host!r} (ltgc-local never uses the network)"


def _check_kind(family: int, kind: int, protocol: int) -> None:
    """Refuse sockets of other families (packets, netlink, Bluetooth, virtual machines) and raw ones.

    -1 is Python's word for "as the descriptor says": of a socket that exists, which was checked when it was made, or
    was inherited or received from a process of this machine.
    """
    import socket

    is_internet = family in (socket.AF_INET, socket.AF_INET6)
    is_plain = kind & 0xF in (socket.SOCK_STREAM, socket.SOCK_DGRAM)  # above are flags
    if not (family in (socket.AF_UNIX, -1) or (is_internet and is_plain)):
        raise PermissionError(
            f"offline: refused a socket of family {family}, kind {kind} (ltgc-local never uses the network)"
        )


def _check_listening(address: Any) -> None:
    """Refuse to listen where others can reach it: on every address ("", 0.0.0.0, ::), and on any but loopback."""
    host = address[0] if isinstance(address, tuple) else None  # a Unix socket's address is a str
    if host is not None and (is_wildcard(host) or not is_loopback(host)):
        raise PermissionError(_refusal("socket.bind", host))


def is_wildcard(host: str | bytes) -> bool:
    """Return whether ``host`` stands for every address of this machine."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        return not name or ipaddress.ip_address(name.split("%")[0]).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str | bytes) -> bool:
    """Return whether ``host`` is this machine by its loopback name or address, or a wildcard to listen on."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if name in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
