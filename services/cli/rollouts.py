"""`scope rollouts`: sampled rollouts, each token coloured by its surprisal (-log p of the sampled token)."""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING, Any

from services.cli.connect import add_run, client_of
from services.cli.output import say, say_json, terminal
from services.cli.parser import add_examples
from services.cli.recorded import chosen_place, records_of
from services.host.terminal import plain, plain_lines
from trainer.errors import ScopeError

if TYPE_CHECKING:
    from rich.text import Text

    from services.records.sampled_rollouts import SampledRollout

MOST = 1000
COLOURS = ((0.1, ""), (0.7, "green"), (1.6, "yellow"), (3.0, "dark_orange"), (float("inf"), "bold red"))
"""(largest surprisal of a token in this colour, nats; colour)"""
READ = "cyan"
"""colour of what the policy read: the prompt, and an environment's replies"""


def add_rollouts(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope rollouts`."""
    add_run(parser)
    parser.add_argument("--step", type=int, metavar="N", help="only rollouts of this learner step")
    parser.add_argument("--role", choices=("base", "adaptive"), help="only rollouts of this role")
    parser.add_argument("--reward", type=float, metavar="R", help="only rollouts with at least this reward")
    parser.add_argument(
        "--correct", choices=("yes", "no"), help="only right or only other answers, by task.positive_from"
    )
    parser.add_argument(
        "--contains",
        metavar="TEXT",
        help="only with this text in the prompt or the response, case-insensitive",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=10,
        metavar="N",
        help="number of rollouts to show, newest first (default: 10)",
    )
    add_examples(
        parser,
        "scope rollouts quickstart",
        "scope rollouts quickstart --role adaptive --correct no --limit 5",
        "scope rollouts --contains '+' --json",
    )
    parser.set_defaults(command=_rollouts)


def _rollouts(options: argparse.Namespace) -> int:
    if not 1 <= options.limit <= MOST:
        raise ScopeError(f"--limit={options.limit} is not allowed: from 1 to {MOST}.")
    found = _found(options)
    if options.json:
        say_json([rollout.model_dump(mode="json") for rollout in found])
        return 0
    if not found:
        say("No rollout matches. A run samples rollouts if rollout_samples.per_step is above 0.")
        return 0
    console = terminal()
    console.print(legend(), soft_wrap=True)
    console.print()
    for rollout in found:
        console.print(_head(rollout), soft_wrap=True)
        console.print(picture(rollout), soft_wrap=True)
        console.print()
    return 0


def _found(options: argparse.Namespace) -> list[SampledRollout]:
    """Read rollouts from the run directory or archive, or with --url from the control plane."""
    from services.records.sampled_rollouts import LONGEST_TEXT, RolloutFilter, read_file

    if options.contains is not None and len(options.contains) > LONGEST_TEXT:
        raise ScopeError(
            f"--contains has {len(options.contains)} characters; it must have at most {LONGEST_TEXT}."
        )
    wanted = RolloutFilter(
        step=options.step,
        role=options.role,
        correct=None if options.correct is None else options.correct == "yes",
        reward=options.reward,
        contains=options.contains,
    )
    if options.url or options.context:
        with client_of(options) as (client, run_id):
            return list(client.rollouts(run_id, wanted, options.limit))
    with records_of(chosen_place(options)) as run:
        return read_file(run, wanted, options.limit)


def legend() -> Text:
    """The legend of the colours."""
    from rich.text import Text

    text = Text("surprisal -log p of each sampled token, nats:", style="dim")
    for (low, _), (_, colour) in itertools.pairwise(COLOURS):
        text.append(f" from {low:g}", style=colour)
    return text.append("; its mean over base rollouts estimates the entropy")


def _head(rollout: SampledRollout) -> Text:
    from rich.text import Text

    facts: list[Any] = [
        f"step {rollout.step}",
        f"{rollout.role} at {rollout.temperature:z.2f}",
        f"reward {rollout.reward:z.2f} ({rollout.verdict})"
        if rollout.scored
        else f"no score ({rollout.verdict})",
        f"{rollout.length} tokens, {rollout.finish}",
        *([] if rollout.surprisal is None else [f"mean surprisal {rollout.surprisal:z.2f}"]),
        f"{rollout.group_id} #{rollout.index}",
    ]
    return Text(plain(" | ".join(map(str, facts))), style="dim")


def picture(rollout: SampledRollout) -> Text:
    """Prompt and response, without control characters, which could move the terminal's cursor."""
    from rich.text import Text

    text = Text(plain_lines(rollout.prompt), style=READ)
    for token, logprob in zip(rollout.tokens, rollout.logprobs, strict=True):
        text.append(plain_lines(token), style=READ if logprob is None else colour_of(-logprob))
    if rollout.length > len(rollout.tokens):
        text.append(f" … {rollout.length - len(rollout.tokens)} more tokens", style="dim")
    return text


def colour_of(surprisal: float) -> str:
    """The colour of a token. surprisal: nats."""
    return next(colour for limit, colour in COLOURS if surprisal <= limit) or "default"
