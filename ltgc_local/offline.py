"""Nothing reaches the network: environment variables that say so to every library, and a guard that enforces it.

``set_environment`` must run before the program's other imports, because libraries read these variables once, when they
are imported. ``forbid_network`` refuses every connection, name look-up and listening socket in this process except on
loopback; docs/security.md says what it does not cover.
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
    "VLLM_HOST_IP": "127.0.0.1",  # otherwise vLLM asks the network for this machine's address
    "TOKENIZERS_PARALLELISM": "false",
}
_NEVER = "(ltgc-local never uses the network)"

_guarded = False


def set_environment() -> None:
    """Tell every library to stay offline, overriding the user's shell."""
    os.environ.update(OFFLINE_ENVIRONMENT)


def forbid_network() -> None:
    """Refuse every Python-level connection, name look-up and listening socket except on loopback in this process.

    Whoever tries gets a PermissionError that names the address or the kind of socket.
    """
    global _guarded
    if not _guarded:
        sys.addaudithook(_audit)
        _refuse_names()
        _guarded = True


def _refuse_names() -> None:
    """Refuse host names before the system looks them up: the audit event of a connection comes after that."""
    import socket

    def guarded(name: str) -> Callable[..., Any]:
        method = getattr(socket.socket, name)

        @wraps(method)
        def call(self: socket.socket, *arguments: Any) -> Any:
            for address in arguments:
                is_address = isinstance(address, tuple) and len(address) in (2, 4) and isinstance(address[1], int)
                if is_address and isinstance(address[0], str | bytes):
                    _check_host(f"socket.{name}", address[0])
            return method(self, *arguments)

        return call

    for name in ("connect", "connect_ex", "bind", "sendto", "sendmsg"):
        setattr(socket.socket, name, guarded(name))


def listen_on_loopback() -> None:
    """Make sockets that ask for all addresses listen on loopback only: vLLM looks for free ports that way."""
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
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"):
        if isinstance(address := arguments[1], tuple):  # a Unix socket's address is a str
            _check_host(event, address[0], listens=event == "socket.bind")
    elif event == "socket.getnameinfo":
        _check_host(event, arguments[0][0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        _check_host(event, arguments[0])


def _check_host(event: str, host: Any, *, listens: bool = False) -> None:
    """Refuse every host but loopback, and to listen on all addresses ("", 0.0.0.0, ::), where others can connect."""
    if host is not None and (not is_loopback(host) or (listens and is_wildcard(host))):
        raise PermissionError(f"offline: refused {event} to {host!r} {_NEVER}")


def _check_kind(family: int, kind: int, protocol: int) -> None:
    """Refuse raw sockets and other families (packets, netlink, Bluetooth, virtual machines).

    Python passes -1 for the family of an existing descriptor, which was checked when it was made, or was inherited or
    received from a process on this machine.
    """
    import socket

    is_internet = family in (socket.AF_INET, socket.AF_INET6)
    is_plain = kind & 0xF in (socket.SOCK_STREAM, socket.SOCK_DGRAM)  # the bits above are flags
    if not (family in (socket.AF_UNIX, -1) or (is_internet and is_plain)):
        raise PermissionError(f"offline: refused a socket of family {family}, kind {kind} {_NEVER}")


def is_wildcard(host: str | bytes) -> bool:
    """Return whether ``host`` stands for every address of this machine."""
    name, address = _parse(host)
    return not name or (address is not None and address.is_unspecified)


def is_loopback(host: str | bytes) -> bool:
    """Return whether ``host`` is this machine's loopback name or address, or a wildcard to listen on."""
    name, address = _parse(host)
    return name in ("", "localhost") or (address is not None and (address.is_loopback or address.is_unspecified))


def _parse(host: str | bytes) -> tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address | None]:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        return name, ipaddress.ip_address(name.split("%")[0])
    except ValueError:
        return name, None
