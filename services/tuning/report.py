"""The results of a search, `search.json`, and its table for the terminal: pure functions of the trials' files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.compare.report import Table, interval_text
from services.compare.results import read_result
from services.compare.run import unit_directory
from services.compare.statistics import at_end
from services.compare.table import interval_of
from services.tuning.plan import Search
from services.tuning.record import TrialRecord
from services.tuning.space import settings_of
from services.tuning.trial import evaluations
from trainer.pass_at_k import pass_at_k

FORMAT = 1
ORDER = ("finished", "stopped", "failed", "interrupted")


def results(search: Search, records: Sequence[TrialRecord], command: str) -> dict[str, Any]:
    """Rank the trials: finished ones by the metric, then stopped ones by how far they came, then the others.

    command: the command line, recorded. Intervals of a stopped trial are those of its first seed where it was stopped.
    """
    trials = sorted((_trial(search, record) for record in records), key=_rank)
    best = next((trial for trial in trials if trial["state"] == "finished"), None)
    return {
        "format": FORMAT,
        "command": command,
        "source": search.source,
        "metric": f"pass@{search.k}",
        "steps": search.config.steps,
        "seeds": list(search.seeds),
        "problems": search.config.evaluation.problems,
        "evaluate_every": search.evaluate_every,
        "searcher_seed": search.searcher_seed,
        "space": [{"field": d.field, "low": d.low, "high": d.high, "log": d.log} for d in search.dimensions],
        "best": None if best is None else settings_of(best["values"]),
        "trials": trials,
        "config": search.config.model_dump(mode="json"),
    }


def table(document: dict[str, Any]) -> Table:
    """Build the table of the trials, the best one first."""
    metrics = list(dict.fromkeys([document["metric"], "pass@1"]))
    fields = [dimension["field"] for dimension in document["space"]]
    rows = [
        [
            str(trial["number"]),
            *(f"{trial['values'][field]:zg}" for field in fields),
            trial["state"],
            f"{trial['step']}/{document['steps']}",
            *(interval_text(trial["pass"].get(name), "z.3f") for name in metrics),
        ]
        for trial in document["trials"]
    ]
    heads = ["trial", *fields, "state", "step", *metrics]
    seeds = len(document["seeds"])
    of = (
        f"{seeds} seeds and {document['problems']} problems"
        if seeds > 1
        else f"{document['problems']} problems"
    )
    return Table(f"Trials by held-out {document['metric']}, 95 % intervals over {of}", heads, rows)


def best_line(document: dict[str, Any]) -> str:
    """The best values as options that can be pasted, or what is missing to name them."""
    if document["best"] is None:
        return "no trial has finished yet"
    return f"best: {' '.join(f'--set {setting}' for setting in document['best'])}"


def _trial(search: Search, record: TrialRecord) -> dict[str, Any]:
    plan = search.trial(record.values)
    ks = dict.fromkeys([search.k, 1])
    passes: dict[str, Any] = {}
    step = record.reports[-1][0] if record.reports else 0
    if record.state == "finished":
        units = [read_result(unit_directory(plan, unit)) for unit in plan.units]
        passes = {f"pass@{k}": interval_of(np.stack([at_end(unit, k) for unit in units])) for k in ks}
    elif record.reports:
        point = next(point for point in evaluations(plan, plan.units[0]) if point.step == step)
        passes = {f"pass@{k}": interval_of(pass_at_k(point.samples, point.correct, k)[None]) for k in ks}
    return {
        "number": record.number,
        "values": record.values,
        # The results are written when nothing runs.
        "state": "interrupted" if record.state == "running" else record.state,
        "step": step,
        "pass": passes,
        "reports": record.reports,
        "reason": record.reason,
    }


def _rank(trial: dict[str, Any]) -> tuple[int, int, float, int]:
    value = trial["reports"][-1][1] if trial["reports"] else 0.0
    return ORDER.index(trial["state"]), -trial["step"], -value, trial["number"]
