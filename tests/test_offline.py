"""Nothing but loopback is reached, by any of the ways that Python has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from ltgc_local.offline import OFFLINE_ENVIRONMENT, is_loopback

REMOTE = "192.0.2.1"  # a documentation address (RFC 5737): nobody's


def udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    "reach",
    [
        lambda: socket.create_connection((REMOTE, 80), timeout=0.1),
        lambda: socket.socket().connect((REMOTE, 80)),
        lambda: socket.socket().connect_ex((REMOTE, 80)),
        lambda: socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80)),
        lambda: udp().sendto(b"x", (REMOTE, 53)),
        lambda: udp().sendmsg([b"x"], [], 0, (REMOTE, 53)),
    ],
    ids=["create_connection", "connect", "connect_ex", "connect over IPv6", "sendto", "sendmsg"],
)
def test_a_connection_to_another_machine_is_refused(reach: Callable[[], object]) -> None:
    with pytest.raises(PermissionError, match=r"offline: refused socket\.\w+ to '(192\.0\.2\.1|2001:db8::1)'"):
        reach()


@pytest.mark.parametrize(
    "look_up",
    [
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: socket.gethostbyname_ex("example.org"),
        lambda: socket.gethostbyaddr(REMOTE),
        lambda: socket.getnameinfo((REMOTE, 80), 0),
    ],
    ids=["getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"],
)
def test_a_name_look_up_is_refused(look_up: Callable[[], object]) -> None:
    with pytest.raises(PermissionError, match="offline: refused"):
        look_up()


def test_loopback_still_works() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        other, _ = server.accept()
        with other:
            client.sendall(b"here")
            assert other.recv(4) == b"here"
    assert socket.getaddrinfo("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("host", "is_this_machine"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        (b"127.0.0.1", True),
        ("::1", True),
        ("::1%lo", True),
        ("0.0.0.0", True),
        ("", True),
        ("192.168.0.1", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        (b"\xff", False),
    ],
)
def test_only_this_machine_is_loopback(host: str | bytes, is_this_machine: bool) -> None:
    assert is_loopback(host) is is_this_machine


def test_libraries_are_told_whatever_the_shell_says() -> None:
    code = (
        "import os; from ltgc_local import offline; offline.set_environment(); print(os.environ['HF_HUB_OFFLINE'],"
        " os.environ['TRANSFORMERS_OFFLINE'])"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["1", "1"]


def test_the_suite_itself_runs_in_that_environment() -> None:
    assert OFFLINE_ENVIRONMENT.items() <= os.environ.items()
