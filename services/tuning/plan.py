"""The plan of a search: its space, its metric and its trials, checked before anything starts. Torch-free."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.checks.preflight import preflight, preflight_learning
from services.compare.plan import SAMPLES_BETWEEN, Plan, Source, Unit, evaluation_settings
from services.tuning.space import Dimension, Values, parse_space, settings_of, trial_name
from trainer.config import RunConfig
from trainer.config.load import config_over, load_config
from trainer.config.paths import expanded
from trainer.errors import ScopeError

METRIC = "pass@16"
TRIALS = 16
EVALUATIONS = 8
"""evaluations of a trial at which it may be stopped, unless `--evaluate-every` sets their distance"""


@dataclass(frozen=True)
class Search:
    """A search for the values with the largest pass@k."""

    config: RunConfig
    """the configuration that every trial starts from"""
    config_path: Path
    out: Path
    source: Source
    dimensions: tuple[Dimension, ...]
    k: int
    """of the metric, pass@k on held-out problems"""
    trials: int
    seeds: tuple[int, ...]
    """seeds of each trial; the first one decides whether it is stopped early"""
    evaluate_every: int
    """learner steps between the evaluations at which a trial may be stopped; 0: none is stopped"""
    parallel: int
    searcher_seed: int

    def values(self, proposed: Values) -> dict[str, float]:
        """Round the values that the searcher proposes."""
        return {d.field: d.rounded(proposed[d.field]) for d in self.dimensions}

    def directory(self, values: Values) -> Path:
        """Return the directory of a trial."""
        return self.out / "trials" / trial_name(values)

    def trial(self, values: Values) -> Plan:
        """Plan a trial as a comparison of one configuration, one unit for each seed."""
        name, out = trial_name(values), self.directory(values)
        where = [] if self.source == "in-process" else [f"runs_dir={out / 'runs'}"]
        tree = self.config.model_dump(mode="json")
        units = []
        for seed in self.seeds:
            settings = (*settings_of(values), f"seed={seed}", *where)
            units.append(Unit(name, "configured", seed, settings, config_over(tree, settings)))
        return Plan(
            config_path=self.config_path,
            out=out,
            source=self.source,
            labels=(name,),
            seeds=self.seeds,
            evaluate_every=self.evaluate_every,
            parallel=self.parallel,
            units=tuple(units),
            samples_between=max(self.k, SAMPLES_BETWEEN),
        )

    def identity(self) -> dict[str, Any]:
        """What trials must have in common to be compared, as plain data. Ranges and numbers of trials may change."""
        fixed = self.config.model_dump(mode="json")
        return {
            "--search": [d.field for d in self.dimensions],
            "--metric": f"pass@{self.k}",
            "--seeds": list(self.seeds),
            "--full": self.source == "full system",
            "--evaluate-every": self.evaluate_every,
            **fixed,
        }


def make_search(
    config_path: Path,
    *,
    space: Sequence[str] = (),
    metric: str = METRIC,
    trials: int = TRIALS,
    seeds: int = 1,
    first_seed: int | None = None,
    settings: Sequence[str] = (),
    out: Path | None = None,
    full: bool = False,
    parallel: int = 1,
    samples: int | None = None,
    evaluate_every: int | None = None,
    searcher_seed: int = 0,
) -> Search:
    """Resolve and check a search. Raises ScopeError; writes nothing."""
    for name, value in (("--trials", trials), ("--seeds", seeds), ("--parallel", parallel)):
        if value < 1:
            raise ScopeError(f"{name} {value} is not allowed: it must be a whole number, at least 1.")
    for name, value in (("--evaluate-every", evaluate_every or 0), ("--seed", searcher_seed)):
        if value < 0:
            raise ScopeError(f"{name} {value} is not allowed: it must be a whole number, at least 0.")
    if full and parallel > 1:
        raise ScopeError(f"--parallel {parallel} is not allowed with --full: full runs follow one another.")
    k = parse_metric(metric)
    common = load_config(config_path, settings)
    evaluation = evaluation_settings(common, samples)
    every = -(-common.steps // EVALUATIONS) if evaluate_every is None else evaluate_every
    every = every if every < common.steps else 0
    if full:
        evaluation.append(f"evaluation.every_steps={every}")
    config = load_config(config_path, [*settings, *evaluation])
    if k > config.evaluation.samples:
        raise ScopeError(
            f"--metric {metric} needs {k} responses to each problem, and evaluation.samples is "
            f"{config.evaluation.samples}. Add --samples {k}."
        )
    dimensions = parse_space(space, config)
    first = config.seed if first_seed is None else first_seed
    search = Search(
        config=config,
        config_path=config_path,
        out=Path(os.path.realpath(out or expanded(config.runs_dir) / f"tune-{config_path.stem}")),
        source="full system" if full else "in-process",
        dimensions=dimensions,
        k=k,
        trials=trials,
        seeds=tuple(range(first, first + seeds)),
        evaluate_every=every,
        parallel=parallel,
        searcher_seed=searcher_seed,
    )
    _check(search)
    return search


def parse_metric(text: str) -> int:
    """Return the k of `pass@k`. Raises ScopeError for anything else."""
    found = re.fullmatch(r"pass@([1-9][0-9]{0,5})", text)
    if found is None:
        raise ScopeError(
            f"--metric {text!r} is not allowed: it must be pass@k with k at least 1, such as {METRIC}."
        )
    return int(found[1])


def _check(search: Search) -> None:
    lowest = search.trial({d.field: d.low for d in search.dimensions}).units[0].config
    if search.source == "full system":
        preflight(lowest)
        return
    preflight_learning(lowest)
    if lowest.evaluation.temperature != 1.0:
        raise ScopeError(
            f"evaluation.temperature = {lowest.evaluation.temperature} is not allowed without --full, only 1.0."
        )
