"""The command line, `scope`: its parser and exit status. Only the module of the command in use is imported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from trainer.errors import ScopeError

EXIT_USER_ERROR = 2

COMMANDS = {
    "train": ("train:add_train", "start a run from a configuration, or resume a run"),
    "submit": ("submit:add_submit", "start a run on Kubernetes, as a RayJob"),
    "compare": ("compare:add_compare", "train one configuration under several entropy controls"),
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
}
"""command → (module:function that adds its options, purpose)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit status: 0 success, 1 failure, 2 an error that the user can fix, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    called = next((word for word in arguments if not word.startswith("-")), "")
    options = make_parser([called]).parse_args(arguments, argparse.Namespace(arguments=arguments))
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ScopeError as error:
        print(f"scope: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("scope: interrupted", file=sys.stderr)
        return 130


def make_parser(with_options: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser of all commands. Only those in `with_options` have options, and only their modules are imported."""
    parser = argparse.ArgumentParser(
        prog="scope", description="SCOPE-RL: post-training with entropy held at a target"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (place, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        if name in with_options:
            module, _, function = place.partition(":")
            getattr(import_module(f"services.cli.{module}"), function)(command)
    return parser
