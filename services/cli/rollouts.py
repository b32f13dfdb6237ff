"""`scope rollouts`: sampled rollouts, each token coloured by its surprisal (-log p of the sampled token)."""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.connect import add_run, client_of, newest_run, run_directory
from services.cli.recorded import records_of
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
    parser.add_argument("path", nargs="?", metavar="RUN", help="run directory or run id; same as --run")
    add_run(parser)
    parser.add_argument("--step", type=int, metavar="N", help="only rollouts of this learner step")
    parser.add_argument("--role", choices=("base", "adaptive"), help="only rollouts of this role")
    parser.add_argument("--reward", type=float, metavar="R", help="only rollouts with at least this reward")
    parser.add_argument("--correct", choices=("yes", "no"), help="whether the reward is 1")
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
    parser.set_defaults(command=_rollouts)


def _rollouts(options: argparse.Namespace) -> int:
    if not 1 <= options.limit <= MOST:
        raise ScopeError(f"--limit={options.limit} is not allowed: from 1 to {MOST}.")
    found = _found(options)
    if options.json:
        print(json.dumps([rollout.model_dump(mode="json") for rollout in found], indent=2))
        return 0
    from rich.console import Console

    console = Console(highlight=False)
    if found:
        console.print(legend(), soft_wrap=True)
        console.print()
    for rollout in found:
        console.print(_head(rollout), soft_wrap=True)
        console.print(picture(rollout), soft_wrap=True)
        console.print()
    if not found:
        console.print(
            "No rollout matches. A run samples rollouts if rollout_samples.per_step is above 0.", style="dim"
        )
    return 0


def _found(options: argparse.Namespace) -> list[SampledRollout]:
    """Read rollouts from the run directory or archive, or with --url from the control plane."""
    from services.records.sampled_rollouts import RolloutFilter, read_file

    wanted = RolloutFilter(
        step=options.step,
        role=options.role,
        correct=None if options.correct is None else options.correct == "yes",
        reward=options.reward,
        contains=options.contains,
    )
    if options.url:
        with client_of(options) as (client, run_id):
            return list(client.rollouts(run_id, wanted, options.limit))
    place = Path(options.path or options.run or newest_run())
    with records_of(place if os.path.isfile(place) else run_directory(str(place))) as run:
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
        f"{rollout.role} at {rollout.temperature:.2f}",
        f"reward {rollout.reward:.2f} ({rollout.verdict})",
        f"{rollout.length} tokens, {rollout.finish}",
        *([] if rollout.surprisal is None else [f"mean surprisal {rollout.surprisal:.2f}"]),
        f"{rollout.group_id} #{rollout.index}",
    ]
    return Text(" | ".join(facts), style="dim")


def picture(rollout: SampledRollout) -> Text:
    """Prompt and response; control characters, which could move the terminal's cursor, are replaced."""
    from rich.text import Text

    text = Text(_plain(rollout.prompt), style=READ)
    for token, logprob in zip(rollout.tokens, rollout.logprobs, strict=True):
        text.append(_plain(token), style=READ if logprob is None else colour_of(-logprob))
    if rollout.length > len(rollout.tokens):
        text.append(f" … {rollout.length - len(rollout.tokens)} more tokens", style="dim")
    return text


def colour_of(surprisal: float) -> str:
    """The colour of a token. surprisal: nats."""
    return next(colour for limit, colour in COLOURS if surprisal <= limit) or "default"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
