"""Runs a search with Ray Tune: continues with what is on disk, records every trial, and writes the results."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.access.run_secrets import RunSecrets
from services.compare.run import locked, make_starting_models
from services.driver.cluster import ray_cluster
from services.driver.progress import Progress
from services.host.interrupts import exit_status, signals_as_interrupts
from services.host.terminal import plain_lines, write
from services.tuning.plan import Search
from services.tuning.record import TrialRecord, next_number, read_records, require_same_search
from trainer.errors import ScopeError
from trainer.files import write_atomically

RESULTS = "search.json"
RAY_FOLDER = "ray"
_SETTINGS = {
    # Ray Tune would save its own state, which this search does not continue from, and log results in three formats.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    # Signals end this program by its own handler.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def tune(search: Search, progress: Progress, *, arguments: Sequence[str]) -> int:
    """Run the trials that are missing, then write `search.json` and the plot; returns the exit status.

    arguments: the command line of `scope`, recorded in the results. Raises ScopeError when the directory holds another
    search, and when no trial has finished.
    """
    with locked(search.out, "scope tune"):
        require_same_search(search)
        records = read_records(search)
        ended = sum(record.ended for record in records)
        progress.say(f"{search.trials} trials ({search.source}), {ended} of them ended, in {search.out}")
        try:
            if ended < search.trials:
                with signals_as_interrupts():
                    _run(search, records, search.trials - ended, progress)
        except KeyboardInterrupt as interrupt:
            progress.say(f"stopped; ended trials are kept. Continue with: scope {shlex.join(arguments)}")
            _write_out(search, progress, arguments)
            return exit_status(interrupt)
        document = _write_out(search, progress, arguments)
        if document["best"] is None:
            reasons = [trial["reason"] for trial in document["trials"] if trial["reason"]]
            raise ScopeError(f"No trial has finished: {(reasons or ['all were stopped early'])[-1]}")
    return 0


def _run(search: Search, records: Sequence[TrialRecord], missing: int, progress: Progress) -> None:
    if search.source == "in-process":
        values = {dimension.field: dimension.low for dimension in search.dimensions}
        make_starting_models(search.trial(values).units, progress)
    folder = search.out / RAY_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    from services.tuning.trainable import environment_of_units

    before = environment_of_units()
    local = search.config.ray.model_copy(update={"address": None, "dashboard": False})
    config = search.config.model_copy(update={"ray": local})
    progress.say("starting Ray")
    secrets = RunSecrets(folder)
    secrets.ensure()
    try:
        with _variables(_SETTINGS), ray_cluster(config, "tune", folder, _never):
            _fit(search, records, missing, progress, before, folder)
    finally:
        shutil.rmtree(secrets.directory, ignore_errors=True)


def _fit(
    search: Search,
    records: Sequence[TrialRecord],
    missing: int,
    progress: Progress,
    environment: dict[str, str],
    folder: Path,
) -> None:
    import ray
    from ray import tune as ray_tune

    from services.tuning.recorder import Recorder
    from services.tuning.searcher import make_scheduler, make_searcher
    from services.tuning.trainable import TrialTrainable

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    trainable = ray_tune.with_parameters(
        TrialTrainable, search=search, environment=environment, directory=str(Path.cwd())
    )
    # With all CPUs shared out, a trial begins only once the process of the one before it has ended.
    cpus = ray.cluster_resources()["CPU"] / search.parallel
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(trainable, {"cpu": cpus}),
        tune_config=ray_tune.TuneConfig(
            search_alg=make_searcher(search, records),
            scheduler=make_scheduler(search, records),
            num_samples=missing,
            max_concurrent_trials=search.parallel,
        ),
        run_config=ray_tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            verbose=0,
            # A trial continues from the files of its units.
            checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[Recorder(search, next_number(records), records, progress)],
        ),
    )
    tuner.fit()


def _write_out(search: Search, progress: Progress, arguments: Sequence[str]) -> dict[str, Any]:
    from services.tuning.plot import plot_search
    from services.tuning.report import best_line, results, table

    document = results(search, read_records(search), f"scope {shlex.join(arguments)}")
    write_atomically(search.out / RESULTS, f"{json.dumps(document, indent=1, allow_nan=False)}\n".encode())
    plot = plot_search(search.out, document)
    if document["trials"]:
        write(f"\n{plain_lines(table(document).text())}\n\n", sys.stdout)
    progress.say(best_line(document))
    progress.say(f"results: {search.out}/{RESULTS}{f', {plot}' if plot else ''}")
    return document


@contextmanager
def _variables(wanted: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _never(_: Callable[[], object]) -> None:
    """No forced exit is handled: the folder of Ray has a watcher that removes it."""
