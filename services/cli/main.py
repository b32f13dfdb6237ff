"""The command line, `scope`: its parser and exit status. Only the module of the command in use is imported."""

from __future__ import annotations

import argparse
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module

from services.cli.output import complain, complain_lines, say
from services.cli.parser import EXIT_USER_ERROR, ScopeParser, add_commands, add_examples
from services.host.interrupts import exit_status, signals_as_interrupts
from services.host.terminal import OutputClosed, prepare_streams
from trainer.errors import ScopeError

EXIT_FAILURE = 1
EXIT_OUTPUT_CLOSED = 141
"""as of a program that SIGPIPE ended"""

COMMANDS = {
    "train": ("train:add_train", "start a run from a configuration, or resume a run"),
    "submit": ("submit:add_submit", "start a run on Kubernetes, as a RayJob"),
    "compare": ("compare:add_compare", "train one configuration under several entropy controls"),
    "tune": ("tune:add_tune", "search for the entropy target with the best pass@k"),
    "doctor": ("doctor:add_doctor", "check a configuration and estimate what its run needs"),
    "eval": ("eval:add_eval", "evaluate a model on held-out problems: pass@k, maj@n"),
    "import": ("import_model:add_import", "convert a GGUF file to a Hugging Face directory"),
    "export": ("export:add_export", "write a run's policy as a Hugging Face directory with a model card"),
    "serve": ("serve:add_serve", "serve the control plane over an existing Redis"),
    "status": ("status:add_status", "show the progress of a run, or how it ended"),
    "view": ("view:add_view", "show finished runs on the page"),
    "pause": ("runs:add_pause", "pause a run; the engines stay loaded"),
    "resume": ("runs:add_resume", "resume a paused run"),
    "stop": ("runs:add_stop", "stop a run in an orderly way, with a checkpoint"),
    "checkpoint": ("runs:add_checkpoint", "write a checkpoint at the next step"),
    "entropy": ("entropy:add_entropy", "read or change the entropy target of a run"),
    "queue": ("queue:add_queue", "inspect the replay queue and its dead letters"),
    "rollouts": ("rollouts:add_rollouts", "show sampled rollouts with token surprisals"),
    "token": ("tokens:add_token", "create, list or revoke tokens of the control plane"),
    "audit": ("audit:add_audit", "show who changed what, and from where"),
    "completion": ("completion:add_completion", "print a script that completes commands in a shell"),
}
"""command → (module:function that adds its options, purpose)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Exit status: 0 success, 1 failure, 2 an error that the user can fix, 130 interrupted, 141 nobody reads the output.
    SIGTERM and a closed terminal interrupt as Ctrl-C does, with 143 and 129.
    """
    prepare_streams()
    try:
        with signals_as_interrupts():
            return _run(sys.argv[1:] if arguments is None else list(arguments))
    except ScopeError as error:
        complain(str(error))
        return EXIT_USER_ERROR
    except KeyboardInterrupt as interrupt:
        complain("interrupted")
        return exit_status(interrupt)
    except OutputClosed:
        return EXIT_OUTPUT_CLOSED
    except Exception:
        # Python's own report of it would print what the message quotes as it is.
        complain_lines(traceback.format_exc())
        return EXIT_FAILURE


def _run(arguments: list[str]) -> int:
    for word in arguments:
        # Python turns such bytes into lone surrogates, which neither Redis nor HTTP nor JSON can carry.
        if not word.isascii() and any("\ud800" <= character <= "\udfff" for character in word):
            raise ScopeError(f"The argument {word!r} is not UTF-8.")
    called = next((word for word in arguments if not word.startswith("-")), "")
    options = make_parser([called]).parse_args(arguments, argparse.Namespace(arguments=arguments))
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def make_parser(with_options: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser of all commands. Only those in `with_options` have options, and only their modules are imported."""
    parser = ScopeParser(prog="scope", description="SCOPE-RL: post-training with entropy held at a target")
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    add_examples(
        parser,
        "scope train deploy/configs/countdown-cpu.yaml --run-id quickstart --replace",
        "scope status quickstart --watch",
        "scope entropy set 0.35 --run quickstart",
    )
    commands = add_commands(parser, "COMMAND")
    for name, (place, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        if name in with_options:
            module, _, function = place.partition(":")
            getattr(import_module(f"services.cli.{module}"), function)(command)
    return parser


class _Version(argparse.Action):
    """Print the version of the program, of its source and of Python."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from services.host.environment import program_version

        say(f"scope {program_version()}, Python {platform.python_version()}")
        parser.exit()
