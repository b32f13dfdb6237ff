"""The live line: what it shows at each width and in each phase, and how it behaves on a real terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from services.driver.live_line import Moment, live_line
from tests.support.step_records import record

DOCUMENT: dict[str, Any] = msgspec.to_builtins(record(61), str_keys=True)
LEARNING = Moment("running", "step 63 of 160", 1.0, 62, 160, 252.0, DOCUMENT)


def shown(moment: Moment, width: int) -> list[str]:
    """The lines of a terminal."""
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(live_line(moment, width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_wide_terminal_shows_everything_in_one_line() -> None:
    (line,) = shown(LEARNING, 120)
    numbers = "entropy 0.400, target 0.400  reward 0.610  T 1.10  alpha 0.50"
    assert line.startswith("learning  \u2501")
    assert line.endswith(f"  62/160  4:12 left  {numbers}")


def test_80_columns_show_everything_in_two_lines() -> None:
    first, second = shown(LEARNING, 80)
    assert first.startswith("learning  \u2501")
    assert first.endswith("  62/160  4:12 left")
    assert second == "entropy 0.400, target 0.400  reward 0.610  T 1.10  alpha 0.50"


@pytest.mark.parametrize("width", [1, 8, 20, 33, 40, 60, 79, 80, 81, 99, 100, 101, 200])
@pytest.mark.parametrize(
    "moment",
    [
        LEARNING,
        Moment("starting_engines", "1 of 2 ready", 35.0),
        Moment("paused", "", 80.0, 62, 160, 252.0, DOCUMENT),
        Moment("saving", "", 3.0, 160, 160, 0.0, DOCUMENT | {"alarm_kinds": ["cooling_at_limit"]}),
    ],
)
def test_no_line_is_wider_than_the_terminal(moment: Moment, width: int) -> None:
    found = shown(moment, width)
    assert 1 <= len(found) <= 2
    assert max(map(len, found)) <= width


def test_the_limit_is_named_once_and_a_run_without_control_has_no_target() -> None:
    assert (
        "at the limit"
        in shown(
            Moment("running", "", 0.0, 1, 9, None, DOCUMENT | {"alarm_kinds": ["heating_at_limit"]}), 120
        )[0]
    )
    free = DOCUMENT | {"entropy_target": None, "reward": -0.0001}
    (line,) = shown(Moment("running", "", 0.0, 1, 9, None, free), 120)
    assert line.endswith("1/9  entropy 0.400  reward 0.000")


def test_a_phase_without_steps_is_said_with_its_duration() -> None:
    assert shown(Moment("starting_engines", "1 of 2 ready", 35.0), 80) == [
        "starting the engines: 1 of 2 ready 0:35"
    ]
    first, _ = shown(Moment("paused", "", 80.0, 62, 160, 252.0, DOCUMENT), 80)
    assert first.startswith("paused 1:20  \u2501")
    assert first.endswith("62/160"), "a run that is paused has no end in sight"


SCRIPT = """
import signal, sys
import msgspec
from services.cli.train import make_progress
from tests.support.step_records import record

with make_progress("r", "text") as progress:
    # As the driver does on Ctrl-C.
    signal.signal(signal.SIGINT, lambda *_: progress.say("SIGINT: stopping"))
    progress.enter("starting_ray")
    progress.say("starting Ray")
    progress.enter("running")
    for step in range(3):
        progress.steps([msgspec.to_builtins(record(step), str_keys=True)], 9)
    print("a library's line", file=sys.stderr)
    signal.raise_signal(signal.SIGINT)
    progress.close_with(["run r finished"])
print("after")
"""


def on_a_terminal(width: int, **environment: str) -> str:
    """What the script writes to a terminal of 24 lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "TERM": "xterm", **environment},
        close_fds=True,
    )
    os.close(theirs)
    written = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(65536):
                written += part
        except OSError:
            # Linux ends a terminal whose other side is closed with an error.
            pass
    assert child.wait(30) == 0, written.decode()
    return written.decode()


def screen(written: str) -> list[str]:
    """The lines that stay, for the few control sequences that rich uses."""
    lines, row = [""], 0
    for part in written.replace("\r\n", "\n\r").split("\x1b["):
        end = next((i for i, letter in enumerate(part) if letter.isalpha()), -1)
        code, text = (part[: end + 1], part[end + 1 :]) if part is not written else ("", part)
        if code == "2K":
            lines[row] = ""
        elif code.endswith("A"):
            row -= int(code[:-1])
        for letter in text:
            if letter == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif letter != "\r":
                lines[row] += letter
    return [line.rstrip() for line in lines]


def test_steps_scroll_above_the_live_line_which_leaves_nothing_behind() -> None:
    written = on_a_terminal(80)
    assert "starting Ray\x1b[0m 0:00" in written, "the live line names the phase"
    assert "3/9" in written
    kept = "\n".join(screen(written))
    order = ["starting Ray", "entropy", "1/9", "2/9", "3/9", "a library's line", "SIGINT: stopping"]
    order += ["run r finished", "after"]
    places = [kept.index(text) for text in order]
    assert places == sorted(places)
    assert "left" not in kept
    assert "\u2501" not in kept


@pytest.mark.parametrize(("environment", "live"), [({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, True)])
def test_a_dumb_terminal_gets_plain_lines_and_no_colour_no_colour(
    environment: dict[str, str], live: bool
) -> None:
    written = on_a_terminal(60, **environment)
    assert ("\x1b[2K" in written) == live
    assert "\x1b[36m" not in written
    if not live:
        assert "\x1b" not in written
