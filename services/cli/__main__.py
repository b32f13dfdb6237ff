"""`python -m services.cli`, and the installed command `scope`."""

import contextlib
import os
import sys

from services.cli import main


def run() -> None:
    """Run the command line and end the process with its status."""
    status = main()
    if status > 128:
        # A signal ended the command, and everything was cleaned up. Taking imported libraries down can take seconds.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
