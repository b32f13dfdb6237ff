"""How a rank of a test ends."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def end_rank() -> NoReturn:
    """End the process at once, successfully.

    gloo's threads let go of tensors a little after a collective call returned. Where the interpreter is being torn
    down by then, that aborts the process ("terminate called without an active exception").
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
