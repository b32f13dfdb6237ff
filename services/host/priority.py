"""Who goes first when cores are short: what answers and watches, before what computes."""

from __future__ import annotations

import os
from pathlib import Path

WORK_NICENESS = 15
"""of learner and generators, as Ray itself has it for every worker"""


def yield_to_others() -> None:
    """Lower the priority of every thread of this process, and so of the threads and processes that they start.

    A learner or a generator calls it first: both take all the time that they get, and a request to the control plane,
    a heartbeat or a lease that waits behind them costs more than it saves. Whoever is lower already stays there.
    """
    for thread in map(int, (task.name for task in Path("/proc/self/task").iterdir())):
        try:
            if os.getpriority(os.PRIO_PROCESS, thread) < WORK_NICENESS:
                os.setpriority(os.PRIO_PROCESS, thread, WORK_NICENESS)
        except ProcessLookupError:
            # It has ended meanwhile.
            continue
