"""Learner and generators run at a lower priority than the services."""

import subprocess
import sys

_PROGRAM = """
import os, subprocess, sys, threading
from services.host.priority import lower_priority
hold = threading.Event()
threads = [threading.Thread(target=hold.wait) for _ in range(3)]
for thread in threads:
    thread.start()
os.nice(int(sys.argv[1]))
lower_priority()
print(*{os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir("/proc/self/task")})
child = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
print(subprocess.check_output([sys.executable, "-c", child], text=True).strip())
hold.set()
"""


def niceness_after(nice: int) -> list[str]:
    """Niceness of the threads of a process that yields, and of its child process."""
    command = ["nice", "-n", "0", sys.executable, "-c", _PROGRAM, str(nice)]
    return subprocess.check_output(command, text=True).split("\n")[:2]


def test_every_thread_and_every_child_yields():
    assert niceness_after(0) == ["15", "15"]


def test_a_process_that_is_lower_already_stays_there():
    # 19 is the lowest priority, whatever the priority of the tests.
    threads, child = niceness_after(19)
    assert set(threads.split()) <= {"15", "16", "17", "18", "19"}
    assert child == "19"
