"""`scope eval`: a model on held-out problems, with pass@k, majority votes and intervals."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from services.cli.connect import run_directory
from services.cli.output import complain, say_json, terminal
from services.cli.parser import add_examples, path_argument
from trainer.errors import ScopeError


def add_eval(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope eval`."""
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="Hugging Face directory, run directory, run id, or hub id (owner/name or owner/name@revision)",
    )
    parser.add_argument(
        "--run", metavar="RUN", help="instead of MODEL: a run, by its id under runs/ or its directory"
    )
    parser.add_argument(
        "--tasks",
        default="",
        metavar="NAME[,NAME]",
        help="tasks with default settings: countdown, a data set preset (math-500), a file of problems, "
        "reasoning_gym/NAME or module:object; default: the run's own task",
    )
    parser.add_argument(
        "--config",
        dest="configs",
        action="append",
        default=[],
        type=path_argument,
        metavar="FILE",
        help="the task that a YAML file configures",
    )
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="A.B=C", help="override a field"
    )
    parser.add_argument("--k", metavar="K[,K]", help="the k of pass@k; default: evaluation.ks")
    parser.add_argument(
        "--n", type=int, metavar="N", help="responses per problem; default: evaluation.samples"
    )
    parser.add_argument(
        "--temperature", type=float, help="0 (greedy), or from 0.05 to 2; default: evaluation.temperature"
    )
    parser.add_argument("--top-p", type=float, default=1.0, help="default: 1")
    parser.add_argument(
        "--max-problems", type=int, metavar="N", help="only the first N problems of each task"
    )
    parser.add_argument(
        "--engines", type=int, default=1, metavar="N", help="vLLM engines, each in its own process"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling (default: 0)")
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="DIR",
        help="results directory; default: evaluations/<model name>",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_examples(
        parser,
        "scope eval quickstart --n 64 --k 1,16",
        "scope eval quickstart-model --tasks countdown,countdown_cot --max-problems 128",
        "scope eval owner/name --tasks math-500 --n 16 --temperature 0.6 --top-p 0.95",
    )
    parser.set_defaults(command=_eval)


def _eval(options: argparse.Namespace) -> int:
    from services.driver.stop_signals import StopSignals
    from services.host.children import Descendants

    with StopSignals(complain) as stop:
        stop.at_forced_exit(Descendants().end)
        return _evaluate(options)


def _evaluate(options: argparse.Namespace) -> int:
    from services.driver.progress import Progress
    from services.evaluation.models import find_model
    from services.evaluation.plan import make_plan
    from services.evaluation.run import evaluate

    if (options.model is None) == (options.run is None):
        raise ScopeError("scope eval needs either a MODEL or --run RUN, not both.")
    model = find_model(options.model if options.run is None else str(run_directory(options.run)))
    plan = make_plan(
        model,
        names=[name for name in options.tasks.split(",") if name],
        configs=options.configs,
        overrides=options.overrides,
        samples=options.n,
        ks=None if options.k is None else _numbers(options.k),
        temperature=options.temperature,
        top_p=options.top_p,
        max_problems=options.max_problems,
        seed=options.seed,
    )
    out = options.out or Path("evaluations") / model.name
    progress = Progress(sys.stderr if options.json else None)
    document = evaluate(plan, out, engines=options.engines, progress=progress)
    say_json(document) if options.json else _show(document)
    return 0


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ScopeError(
            f"--k={text!r} is not allowed: whole numbers separated by commas, such as 1,4,16."
        ) from None


def _show(document: dict[str, Any]) -> None:
    from rich.table import Table

    sampling = document["sampling"]
    table = Table(box=None, padding=(0, 2), header_style="dim", pad_edge=False)
    for name in ("task", "", "mean", "95 % interval"):
        table.add_column(name, justify="left" if name in ("task", "") else "right")
    for label, task in document["tasks"].items():
        heading = label
        for name, figure in task.items():
            if "@" in name:
                interval = f"[{figure['low95']:z.3f}, {figure['high95']:z.3f}]"
                table.add_row(heading, name, f"{figure['mean']:z.3f}", interval)
                heading = ""
        table.add_row("", "problems", str(task["problems"]), "")
        table.add_row("", "tokens", f"{task['tokens']:z.1f}", "")
        table.add_row("", "truncated", f"{task['truncated_share']:.1%}", "")
        if task["unscored"]:
            table.add_row("", "without a score", str(task["unscored"]), "")
    console = terminal()
    console.print(table)
    console.print(
        f"bootstrap intervals over problems; temperature {sampling['temperature']:g}, "
        f"top-p {sampling['top_p']:g}",
        style="dim",
    )
