"""Runs a program that the kernel terminates when the process that started it ends, however that ends.

Used as a script between parent and program: `python die_with_parent.py PARENT_PID PROGRAM ARGUMENT…`. It asks Linux
to send it SIGTERM when the parent dies, then replaces itself with the program. A `preexec_fn` could do the same, but it
would run in the fork of a process with many threads, where it can deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def die_with_parent(command: Sequence[str]) -> list[str]:
    """Return the command line that runs `command` until the calling process ends.

    Linux watches the *thread* that starts the program: start it from a thread that lives as long as the program.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Ask for SIGTERM when the parent dies, then replace this process with the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the starting process ended first")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
