"""The command line, `scope`: its parser and exit status. Only the module of the command that is called is loaded."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from trainer.errors import ScopeError

EXIT_USER_ERROR = 2

COMMANDS = {
    "train": ("train:add_train", "run a configuration, or resume a run"),
    "submit": ("submit:add_submit", "run a configuration on Kubernetes, as a RayJob"),
    "compare": ("compare:add_compare", "run a configuration under several entropy controls"),
    "doctor": ("doctor:add_doctor", "check a configuration, and estimate what its run needs"),
    "eval": ("eval:add_eval", "evaluate a model on held-out problems: pass@k, maj@n"),
    "import": ("import_model:add_import", "a GGUF file as a Hugging Face directory, to train from"),
    "export": ("export:add_export", "a run's policy as a Hugging Face directory with a model card"),
    "serve": ("serve:add_serve", "serve the control plane over an existing Redis"),
    "status": ("status:add_status", "how a run goes"),
    "pause": ("runs:add_pause", "hold a run: engines stay warm, nothing is generated or learned"),
    "resume": ("runs:add_resume", "let a paused run go on"),
    "stop": ("runs:add_stop", "stop a run in order: checkpoint, then end"),
    "checkpoint": ("runs:add_checkpoint", "write a checkpoint at the next step"),
    "entropy": ("entropy:add_entropy", "read or move the entropy target"),
    "queue": ("queue:add_queue", "the replay queue and its dead letters"),
    "rollouts": ("rollouts:add_rollouts", "what the policy wrote, token by token"),
    "token": ("tokens:add_token", "make, list or revoke tokens of the control plane, or see your own"),
    "audit": ("audit:add_audit", "who changed what, and from where"),
}
"""Each command, by name: which function of which module here gives it its options, and what it is for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 a fault that the message explains."""
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
        print("scope: given up", file=sys.stderr)
        return 130


def make_parser(with_options: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Every command; those of `with_options` with their options, whose modules are loaded for that."""
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
