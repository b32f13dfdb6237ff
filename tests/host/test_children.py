"""Processes that end with the one that started them."""

from __future__ import annotations

import subprocess
import sys

from services.host.children import Descendants

WITH_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"


def test_what_was_started_since_ends_with_its_own_children_and_nothing_else_does() -> None:
    before = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    descendants = Descendants()
    after = subprocess.Popen(
        [sys.executable, "-c", WITH_CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert after.stdout is not None
    assert after.stdout.readline() == b"1\n"
    try:
        descendants.end()
        # The child's child held the other end of the pipe until it ended.
        assert after.stdout.read() == b""
        after.wait(10)
        assert before.poll() is None
    finally:
        before.kill()
        before.wait()
