"""The command line, `scope`: its parser and its exit status. Heavy imports happen inside the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from services.cli.doctor import add_doctor
from services.cli.entropy import add_entropy
from services.cli.evaluate import add_eval
from services.cli.export import add_export
from services.cli.queue import add_queue
from services.cli.rollouts import add_rollouts
from services.cli.runs import add_runs
from services.cli.start import add_compare, add_serve, add_train
from services.cli.status import add_status
from services.cli.submit import add_submit
from services.cli.tokens import add_audit, add_token
from trainer.errors import ScopeError

EXIT_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 a fault that the message explains."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = make_parser().parse_args(arguments, argparse.Namespace(arguments=arguments))
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ScopeError as error:
        print(f"scope: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("scope: given up", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="scope", description="SCOPE-RL: post-training with entropy held at a set-point"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_train(commands.add_parser("train", help="run a configuration, or resume a run"))
    add_submit(commands.add_parser("submit", help="run a configuration on Kubernetes, as a RayJob"))
    add_compare(commands.add_parser("compare", help="run a configuration under several entropy controls"))
    add_doctor(commands.add_parser("doctor", help="check a configuration, and estimate what its run needs"))
    add_eval(commands.add_parser("eval", help="evaluate a model on held-out problems: pass@k, maj@n"))
    add_export(
        commands.add_parser("export", help="a run's policy as a Hugging Face directory with a model card")
    )
    add_serve(commands.add_parser("serve", help="serve the control plane over an existing Redis"))
    add_status(commands.add_parser("status", help="how a run goes"))
    add_runs(commands)
    add_entropy(commands.add_parser("entropy", help="read or move the entropy set-point"))
    add_queue(commands.add_parser("queue", help="the replay queue and its dead letters"))
    add_rollouts(commands.add_parser("rollouts", help="what the policy wrote, token by token"))
    add_token(
        commands.add_parser("token", help="make, list or revoke tokens of the control plane, or see your own")
    )
    add_audit(commands.add_parser("audit", help="who changed what, and from where"))
    return parser
