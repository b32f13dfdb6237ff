"""What went wrong in a process that shares this one's output, when that goes to files as it does in Ray."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

OUTPUT = (Path("/proc/self/fd/1"), Path("/proc/self/fd/2"))
TAIL_BYTES = 1 << 18
_ERROR = re.compile(
    r"^(?:\([^)]*pid=\d+\) )?(?:ERROR [^\]]*\] )?([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\w*: .+)$",
    re.MULTILINE,
)
_ELSEWHERE = "root cause"


def last_error_written(files: Sequence[Path] = OUTPUT) -> str | None:
    """The last line of a traceback in `files`, and which of them it is; None when none of them is a file and has one.

    vLLM's engine and its workers are processes of their own. What their client raises, and some of them, says no more
    than that the root cause stands above.
    """
    for file in files:
        if not file.is_file():
            continue
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
            written = stream.read().decode(errors="replace")
        found = [error for error in _ERROR.findall(written) if _ELSEWHERE not in error]
        if found:
            return f"{found[-1]} (more in {file.resolve().name})"
    return None
