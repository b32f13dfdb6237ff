"""CPU priority: processes that answer requests and supervise others run before those that compute."""

from __future__ import annotations

import os
from pathlib import Path

WORK_NICENESS = 15
"""niceness of the learner and the generators; Ray's own default for every worker"""


def lower_priority() -> None:
    """Lower the priority of every thread of this process, and of the threads and processes that they start.

    The learner and the generators call it first. Both use all the CPU time they get, and would delay requests to the
    control plane, heartbeats and leases. Threads already at a lower priority keep it.
    """
    for thread in map(int, (task.name for task in Path("/proc/self/task").iterdir())):
        try:
            if os.getpriority(os.PRIO_PROCESS, thread) < WORK_NICENESS:
                os.setpriority(os.PRIO_PROCESS, thread, WORK_NICENESS)
        except ProcessLookupError:
            # The thread has ended meanwhile.
            continue
