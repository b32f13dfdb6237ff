"""`scope compare`: one configuration under several entropy controls."""

from __future__ import annotations

import argparse

from services.cli.parser import add_examples, add_study_options, path_argument


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope compare`."""
    parser.add_argument("config", type=path_argument, help="YAML file")
    parser.add_argument(
        "--controls",
        action="append",
        required=True,
        metavar="NAME,NAME:A.B=C,LABEL@NAME:A.B=C",
        help="entropy controls, the baseline first; overrides of one control after a colon",
    )
    parser.add_argument("--seeds", type=int, required=True, metavar="N", help="runs per control")
    add_study_options(parser, each="control", folder="compare")
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="train each run in a single process instead of the full system",
    )
    parser.add_argument("--parallel", type=int, default=1, metavar="P", help="number of runs in parallel")
    parser.add_argument(
        "--samples",
        type=int,
        help="responses per held-out problem in the evaluations at the start and the end",
    )
    parser.add_argument(
        "--evaluate-every",
        type=int,
        metavar="STEPS",
        help="with --in-process: also evaluate during training; 0: do not",
    )
    add_examples(
        parser,
        "scope compare deploy/configs/countdown-cpu.yaml --controls grpo,scope --seeds 3",
        "scope compare deploy/configs/countdown-cpu.yaml --controls grpo,scope --seeds 5 --in-process --parallel 2",
        "scope compare deploy/configs/countdown-cpu.yaml --controls grpo,scope:entropy_control.target=0.3 --seeds 2",
    )
    parser.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> int:
    from services.compare.plan import make_plan

    plan = make_plan(
        options.config,
        options.controls,
        seeds=options.seeds,
        first_seed=options.first_seed,
        settings=options.overrides,
        out=options.out,
        in_process=options.in_process,
        parallel=options.parallel,
        samples=options.samples,
        evaluate_every=options.evaluate_every,
    )
    from services.compare.run import compare
    from services.driver.progress import Progress

    return compare(plan, Progress(), arguments=options.arguments)
