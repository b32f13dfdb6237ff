"""Ctrl-C and SIGTERM: the first requests an orderly stop, the second exits immediately."""

from __future__ import annotations

import io
import os
import signal
import time

import pytest
from redis import Redis

from services.driver.progress import Progress
from services.driver.stop_signals import StopSignals
from services.run.control import desired


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_first_signal_asks_for_a_stop_and_the_second_gives_up(
    redis: Redis, run: str, number: signal.Signals
) -> None:
    terminal, before = io.StringIO(), signal.getsignal(number)
    with StopSignals(redis, run, Progress(terminal)) as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        deadline = time.monotonic() + 10
        while desired(redis, run).state != "stop" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert desired(redis, run).state == "stop"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert f"{number.name}: stopping after this step" in terminal.getvalue()
    assert signal.getsignal(number) == before
