"""The error that made an engine's process fail at startup, read from the log files that it shares with this process.

Ray redirects the standard output and error of an actor and of the processes it starts to files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

OUTPUT_FILES = (Path("/proc/self/fd/1"), Path("/proc/self/fd/2"))
TAIL_BYTES = 1 << 18
_ERROR = re.compile(
    r"^(?:\([^)]*pid=\d+\) )?(?:ERROR [^\]]*\] )?([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\w*: .+)$",
    re.MULTILINE | re.ASCII,
)
_POINTER = "root cause"


def last_error_written(files: Sequence[Path] = OUTPUT_FILES) -> str | None:
    """Return the last line of the last traceback in `files`, with the file's name; None when there is no traceback.

    vLLM runs its engine core and workers in other processes. The error that their client raises here, and some of
    theirs, say only that the root cause is above; such lines are skipped.
    """
    for file in files:
        if not file.is_file():
            continue
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
            written = stream.read().decode(errors="replace")
        found = [error for error in _ERROR.findall(written) if _POINTER not in error]
        if found:
            return f"{found[-1]} (more in {file.resolve().name})"
    return None
