"""Signals that ask a process to stop: at once, or where a training looks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from ltgc_local import stopping


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    stopping.listen()
    yield
    stopping.listen()
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_stops_at_once_and_sigusr1_only_where_it_is_looked_at() -> None:
    send(signal.SIGUSR1)
    assert stopping.is_asked()
    with pytest.raises(stopping.Stopped):
        stopping.check()
    with pytest.raises(stopping.Stopped):
        send(signal.SIGTERM)
    assert stopping.first_signal() == signal.SIGUSR1


def test_a_training_is_left_to_stop_by_itself_until_another_sigterm_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with stopping.polling():
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        send(signal.SIGTERM)  # the same request, passed on by the launcher
        assert stopping.is_asked()
        monkeypatch.setattr(stopping, "SAME_REQUEST_S", 0.0)
        with pytest.raises(stopping.Stopped):
            send(signal.SIGTERM)


def test_the_same_request_again_does_not_interrupt_what_cleans_up_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    is_clean = False
    with pytest.raises(stopping.Stopped):
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGTERM)
            is_clean = True
    assert is_clean
    monkeypatch.setattr(stopping, "SAME_REQUEST_S", 0.0)
    with pytest.raises(stopping.Stopped):
        send(signal.SIGTERM)
