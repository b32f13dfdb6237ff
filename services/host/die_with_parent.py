"""Runs a program that the kernel terminates when the process that started it dies, however it dies.

Used as a script between parent and program: `python die_with_parent.py PARENT_PID PROGRAM ARGUMENT…`. It asks
Linux for SIGTERM on the parent's death, then becomes the program. A `preexec_fn` would do the same inside the
fork of a process with many threads, where it can deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def die_with_parent(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` bound to the calling process.

    Linux binds to the calling *thread*: start the program from one that lives as long as it shall run.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Bind to the parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the starting process ended first")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
