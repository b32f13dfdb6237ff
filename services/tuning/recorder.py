"""Records the trials that Ray Tune runs, and prints a line for each of their events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from services.driver.progress import Progress
from services.tuning.plan import Search
from services.tuning.record import FAILURE_FILE, TrialRecord, write_record
from services.tuning.searcher import METRIC, STEP
from services.tuning.space import settings_of, trial_name

LOST = "Ray lost its process, perhaps for lack of memory; its logs are in {}/ray/logs."


class Recorder(Callback):
    """Writes `trial.json` of every trial, from the process of the search alone."""

    def __init__(
        self, search: Search, first_number: int, earlier: Sequence[TrialRecord], progress: Progress
    ) -> None:
        """earlier: trials of earlier sessions, whose numbers those that run again keep."""
        self._search, self._next, self._progress = search, first_number, progress
        self._numbers = {trial_name(record.values): record.number for record in earlier}
        self._records: dict[str, TrialRecord] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Note that the trial runs."""
        values = self._search.values(trial.config)
        number = self._numbers.setdefault(trial_name(values), self._next)
        self._next += number == self._next
        record = TrialRecord(number=number, values=values, state="running")
        self._records[trial.trial_id] = record
        write_record(self._search, record)
        self._progress.say(f"trial {number}: {', '.join(settings_of(values))}")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Note the metric at a step."""
        record = self._records[trial.trial_id]
        record.reports.append((result[STEP], result[METRIC]))
        write_record(self._search, record)
        self._progress.say(
            f"trial {record.number}: step {result[STEP]} of {self._search.config.steps}, "
            f"pass@{self._search.k} {result[METRIC]:z.3f}"
        )

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Note that the trial has finished, or was stopped early."""
        record = self._records[trial.trial_id]
        record.state = "finished" if record.reports[-1][0] == self._search.config.steps else "stopped"
        write_record(self._search, record)
        if record.state == "stopped":
            self._progress.say(f"trial {record.number}: stopped early, below others at this step")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Note why the trial failed."""
        record = self._records[trial.trial_id]
        failure = self._search.directory(record.values) / FAILURE_FILE
        record.state = "failed"
        record.reason = failure.read_text() if failure.exists() else LOST.format(self._search.out)
        write_record(self._search, record)
        self._progress.say(f"trial {record.number}: failed: {record.reason}")
