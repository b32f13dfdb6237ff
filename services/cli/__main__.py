"""`python -m services.cli`, and the installed command `scope`."""

import contextlib
import os
import sys

from services.cli import main


def run() -> None:
    """Run the command line and end the process with its status."""
    status = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    # Everything was cleaned up. Taking imported libraries down can take seconds, and Ray would wait for its processes.
    os._exit(status)


if __name__ == "__main__":
    run()
