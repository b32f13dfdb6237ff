"""Ends a rank process without tearing down the interpreter."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def end_rank() -> NoReturn:
    """Exit the process immediately with status 0.

    gloo's threads release tensors shortly after a collective call returns. If the interpreter is being torn down by
    then, the process aborts ("terminate called without an active exception").
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
