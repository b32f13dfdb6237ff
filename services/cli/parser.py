"""The parser of the command line: errors in one sentence with the nearest name, and examples in every help text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from services.cli.output import complain
from services.host.terminal import write

EXIT_USER_ERROR = 2
_EXAMPLES = "examples:"


class ScopeParser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, with exit status 2."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self.register("action", "parsers", _Commands)

    def error(self, message: str) -> NoReturn:
        """Print an error of argparse and exit."""
        _refuse(f"{message}. See {self.prog} --help.")

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; what is left over is an error here, where the command that it was given to is known."""
        found, left = super().parse_known_args(args, namespace or argparse.Namespace())
        for word in left:
            if word.startswith("-") and word != "--":
                self._refuse_option(word)
            self.error(f"{self.prog} takes no further argument, and {word!r} is one too many")
        return found, left

    def _parse_optional(self, arg_string: str) -> Any:
        """Refuse an unknown option before argparse complains of what is missing because of it."""
        found = super()._parse_optional(arg_string)
        # A parser with commands also sees their options here.
        if found is not None and found[0] is None and self._subparsers is None:
            self._refuse_option(arg_string)
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            near = nearest(value, names)
            hint = (
                f"The commands are {', '.join(names)}."
                if near is None
                else f"Did you mean {self._path(near)}?"
            )
            _refuse(f"there is no command '{self._path(value)}'. {hint}")
        name = "/".join(action.option_strings) or action.metavar or action.dest
        near = nearest(value, names)
        hint = "" if near is None else f" Did you mean {near}?"
        _refuse(f"{name}={value!r} is not allowed: one of {', '.join(names)}.{hint}")

    def _refuse_option(self, word: str) -> NoReturn:
        name = word.partition("=")[0]
        options = [option for action in self._actions for option in action.option_strings]
        near = nearest(name, options)
        hint = f"See {self.prog} --help." if near is None else f"Did you mean {near}?"
        _refuse(f"{self.prog} has no option '{name}'. {hint}")

    def _path(self, name: str) -> str:
        """The command `name` of this parser as a person types it after `scope`."""
        return " ".join([*self.prog.split()[1:], name])

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:
        if message:
            write(message, sys.stderr if file is None else file)  # pyright: ignore[reportArgumentType]


class _Commands(argparse._SubParsersAction):
    """The commands of a parser; the help text of each begins with its purpose."""

    def add_parser(self, name: str, *, help: str, **settings: Any) -> Any:
        return super().add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", **settings)


def add_commands(parser: argparse.ArgumentParser, metavar: str) -> Any:
    """Let `parser` take commands; without one it prints its help."""

    def show_help(_: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    parser.set_defaults(command=show_help)
    return parser.add_subparsers(metavar=metavar)


def path_argument(text: str) -> Path:
    """The path that an argument names: `~` at its start is the home directory. The `type` of an argument."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"the path {text!r} is empty")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(
            f"the path {text!r} begins with a home directory that is not known here"
        ) from None


def add_examples(parser: argparse.ArgumentParser, *commands: str) -> None:
    """Show command lines below the options in the help text."""
    parser.epilog = "\n".join([_EXAMPLES, *(f"  {command}" for command in commands)])


def examples_of(parser: argparse.ArgumentParser) -> list[str]:
    """The command lines that `add_examples` added."""
    heading, *commands = (parser.epilog or "").splitlines() or [""]
    return [command.strip() for command in commands] if heading == _EXAMPLES else []


def add_study_options(parser: argparse.ArgumentParser, *, each: str, folder: str) -> None:
    """Add the options of commands that train many runs.

    each: what a set of runs is called; folder: the beginning of the default of `--out`.
    """
    parser.add_argument(
        "--first-seed", type=int, metavar="SEED", help="default: the seed of the configuration"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="A.B=C",
        help=f"override a field for every {each}",
    )
    parser.add_argument(
        "--out", type=path_argument, help=f"results directory; default: {folder}-<file name> in runs_dir"
    )


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that `word` may be a misspelling of; None if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(names), n=1)
    return near[0] if near else None


def _refuse(message: str) -> NoReturn:
    complain(message)
    sys.exit(EXIT_USER_ERROR)
