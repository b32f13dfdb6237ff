"""`scope tune`: a search for the entropy target, or other numbers, with the best pass@k."""

from __future__ import annotations

import argparse

from services.cli.parser import add_examples, add_study_options, path_argument


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope tune`."""
    parser.add_argument("config", type=path_argument, help="YAML file")
    parser.add_argument(
        "--search",
        dest="space",
        action="append",
        default=[],
        metavar="A.B=LOW:HIGH[:log]",
        help="field to search and its range; may be repeated; default: half to twice entropy_control.target",
    )
    parser.add_argument(
        "--metric", default="pass@16", metavar="pass@K", help="on held-out problems; default: pass@16"
    )
    parser.add_argument("--trials", type=int, default=16, metavar="N", help="values to try; default: 16")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each trial; default: 1")
    add_study_options(parser, each="trial", folder="tune")
    parser.add_argument(
        "--full", action="store_true", help="train each run on the full system instead of in a single process"
    )
    parser.add_argument("--parallel", type=int, default=1, metavar="P", help="number of trials in parallel")
    parser.add_argument(
        "--samples",
        type=int,
        help="responses per held-out problem in the evaluations at the start and the end",
    )
    parser.add_argument(
        "--evaluate-every",
        type=int,
        metavar="STEPS",
        help="steps between evaluations at which poor trials are stopped; default: an eighth of the run; 0: stop none",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the searcher; default: 0")
    add_examples(
        parser,
        "scope tune deploy/configs/countdown-cpu.yaml --metric pass@16",
        "scope tune deploy/configs/countdown-cpu.yaml --search entropy_control.target=0.1:0.6 --seeds 2 --parallel 2",
        "scope tune deploy/configs/countdown-cpu.yaml --search entropy_control.target=0.1:0.6 "
        "--search optimizer.learning_rate=1e-4:1e-2:log --trials 24",
    )
    parser.set_defaults(command=_tune)


def _tune(options: argparse.Namespace) -> int:
    from services.tuning.plan import make_search

    search = make_search(
        options.config,
        space=options.space,
        metric=options.metric,
        trials=options.trials,
        seeds=options.seeds,
        first_seed=options.first_seed,
        settings=options.overrides,
        out=options.out,
        full=options.full,
        parallel=options.parallel,
        samples=options.samples,
        evaluate_every=options.evaluate_every,
        searcher_seed=options.seed,
    )
    from services.driver.progress import Progress
    from services.tuning.run import tune

    return tune(search, Progress(), arguments=options.arguments)
