"""The searcher and the scheduler of Ray Tune, with what earlier sessions of the same search have found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from services.tuning.plan import Search
from services.tuning.record import TrialRecord
from services.tuning.space import Dimension, configured, trial_name, within

STEP, METRIC = "step", "metric"
"""names in the results that trials report to Ray Tune"""
KEPT = 2
"""one in `KEPT` trials goes on at an evaluation where trials are stopped"""
RANDOM_SHARE = 4
"""one in `RANDOM_SHARE` trials is drawn at random before the model of the others proposes values"""
FEWEST_RANDOM = 4


def make_searcher(search: Search, records: Sequence[TrialRecord]) -> OptunaSearch:
    """Make a tree-structured Parzen estimator that knows the ended trials and begins with the interrupted ones.

    A new search begins with the values of the configuration itself, where they are in range.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = [record for record in records if within(search.dimensions, record.values)]
    first: list[Mapping[str, float]] = [record.values for record in known if not record.ended]
    if not records and (own := configured(search.dimensions, search.config)) is not None:
        first.append(own)
    searcher = OptunaSearch(
        {d.field: _distribution(d) for d in search.dimensions},
        metric=METRIC,
        mode="max",
        points_to_evaluate=[dict(values) for values in first],
        # Another seed in each session: the same one would draw the values of the first session again.
        sampler=optuna.samplers.TPESampler(
            seed=search.searcher_seed + len(records),
            n_startup_trials=max(FEWEST_RANDOM, search.trials // RANDOM_SHARE),
        ),
    )
    for record in known:
        if record.ended:
            searcher.add_evaluated_point(dict(record.values), record.reports[-1][1])
    return searcher


def make_scheduler(search: Search, records: Sequence[TrialRecord]) -> TrialScheduler:
    """Make the scheduler that stops poor trials (asynchronous successive halving), or one that stops none."""
    if search.evaluate_every == 0:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        time_attr=STEP,
        metric=METRIC,
        mode="max",
        max_t=search.config.steps,
        grace_period=search.evaluate_every,
        reduction_factor=KEPT,
    )
    # It compares a trial with all before it: those of earlier sessions are reported to it as they were then.
    unused: Any = None
    for record in records:
        if record.ended:
            past: Any = SimpleNamespace(trial_id=trial_name(record.values))
            scheduler.on_trial_add(unused, past)
            for step, value in record.reports:
                scheduler.on_trial_result(unused, past, {STEP: step, METRIC: value})
    return scheduler


def _distribution(dimension: Dimension) -> BaseDistribution:
    kind = IntDistribution if dimension.whole else FloatDistribution
    return kind(dimension.low, dimension.high, log=dimension.log)  # pyright: ignore[reportArgumentType]
