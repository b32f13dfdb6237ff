"""The command line, `scope`: one module for each family of commands."""

from services.cli.main import main

__all__ = ["main"]
