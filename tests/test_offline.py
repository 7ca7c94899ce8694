"""Nothing but loopback is reached, by any of the ways that Python has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


@pytest.mark.parametrize("host", ["", "0.0.0.0", "192.0.2.1", "0", "example.org"])
def test_listening_where_others_can_reach_it_is_refused(host: str) -> None:
    with socket.socket() as listener, pytest.raises(PermissionError, match=r"offline: refused socket\.bind to"):
        listener.bind((host, 0))


def test_listening_on_every_address_is_refused_over_ipv6() -> None:
    for host in ("::", "::ffff:0.0.0.0", ""):
        with (
            socket.socket(socket.AF_INET6) as listener,
            pytest.raises(PermissionError, match=r"refused socket\.bind to"),
        ):
            listener.bind((host, 0))


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("AF_PACKET", socket.SOCK_RAW),
        ("AF_NETLINK", socket.SOCK_RAW),
        ("AF_NETLINK", socket.SOCK_DGRAM),
        ("AF_INET", socket.SOCK_RAW),
        ("AF_INET6", socket.SOCK_RAW),
        ("AF_VSOCK", socket.SOCK_STREAM),
        ("AF_BLUETOOTH", socket.SOCK_STREAM),
        ("AF_CAN", socket.SOCK_RAW),
        ("AF_INET", socket.SOCK_SEQPACKET),
    ],
)
def test_sockets_of_other_families_and_raw_ones_are_refused(family: str, kind: int) -> None:
    number = getattr(socket, family, None)
    if number is None:
        pytest.skip(f"this system has no {family}")
    with pytest.raises(PermissionError, match="offline: refused a socket of family"):
        socket.socket(number, kind)


def test_sockets_of_this_machine_work(tmp_path: Path) -> None:
    one, other = socket.socketpair()
    with one, other, socket.socket(fileno=other.detach()) as same:
        one.sendall(b"here")
        assert same.recv(4) == b"here"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
    with socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as plain:
        plain.bind(("127.0.0.1", 0))


def test_a_library_that_looks_for_a_free_port_on_every_address_gets_loopbacks() -> None:
    code = """
import socket
from ltgc_local import offline
offline.forbid_network(); offline.listen_on_loopback()
for family, host in ((socket.AF_INET, ""), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "")):
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        print(probe.getsockname()[0])
try:
    socket.socket().bind(("192.0.2.1", 0))
except PermissionError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["127.0.0.1", "127.0.0.1", "::1", "refused"]


@pytest.mark.parametrize(
    "reach",
    [
        lambda: socket.socket().connect(("secret.example.org", 80)),
        lambda: socket.socket().connect_ex((b"secret.example.org", 80)),
        lambda: socket.socket(socket.AF_INET6).connect(("secret.example.org", 80, 0, 0)),
        lambda: socket.socket().bind(("secret.example.org", 0)),
        lambda: udp().sendto(b"x", ("secret.example.org", 53)),
        lambda: udp().sendmsg((b"x",), [], 0, ("secret.example.org", 53)),
    ],
    ids=["connect", "connect_ex", "IPv6", "bind", "sendto", "sendmsg"],
)
def test_a_name_is_refused_before_it_is_looked_up(reach: Callable[[], object]) -> None:
    """A look-up alone tells the name's server what was asked for; the system's resolver would raise socket.gaierror."""
    with pytest.raises(PermissionError, match=r"offline: refused socket\.\w+ to b?'secret\.example\.org'"):
        reach()


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
