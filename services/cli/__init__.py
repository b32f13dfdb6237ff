"""The command line, `scope`: one module per command, or per family of commands."""

from services.cli.main import main

__all__ = ["main"]
