"""Nothing reaches the network: the environment that says so to every library, and a guard that enforces it.

``set_environment`` must run before any other import of the program, because the libraries read these variables once,
when they are imported. ``forbid_network`` refuses every connection and name look-up but loopback, in this process.
"""

from __future__ import annotations

import ipaddress
import os
import sys
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
    """Refuse every Python-level connection and name look-up but loopback, for the life of this process.

    Raises (in whoever tries):
        PermissionError: with the address that was asked for.
    """
    global _guarded
    if not _guarded:
        sys.addaudithook(_audit)
        _guarded = True


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
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
        raise PermissionError(f"offline: refused {event} to {host!r} (ltgc-local never uses the network)")


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
