"""The command line, `scope`: one module per command, or per family of commands."""

import sys

try:
    from services.cli.main import main
except KeyboardInterrupt:
    # Ctrl-C while Python imports the command line.
    sys.exit(130)

__all__ = ["main"]
