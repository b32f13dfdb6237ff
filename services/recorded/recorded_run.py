"""One recorded run: what its directory says about it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import yaml

from services.recorded.from_records import state_of
from services.recorded.saved_state import SavedState, read_saved
from services.records.sampled_rollouts import RolloutFilter, SampledRollout, read_file
from services.records.sinks import read_records
from services.records.step_record import StepRecord
from services.results.evaluations import EVALUATIONS, Evaluations
from services.run.directory import CONFIG_FILE, check_format
from services.run.lock import is_driven
from services.run.state import Phase, RunSpec
from trainer.config import RunConfig
from trainer.config.load import config_hash, load_config
from trainer.errors import ScopeError

STEPS, REPORT = "steps.jsonl", "report.json"
MOST_ROLLOUTS = 10_000
LONGEST_CAUSE = 200
"""characters of an error that a refusal quotes"""
_UNREADABLE = (
    OSError,
    msgspec.MsgspecError,
    # JSON, pydantic, and text that is not UTF-8.
    ValueError,
    ArithmeticError,
    RecursionError,
    # A document of another shape.
    AttributeError,
    LookupError,
    TypeError,
)
ENDED = ("finished", "failed")
Ending = Literal["finished", "stopped", "failed", "silent", "live"]
_SILENT = (
    "The run ended without a word: it was killed, or this is a copy that was made while it ran. "
    "`scope train --resume RUN_DIR` continues it."
)


@dataclass(frozen=True)
class RecordedRun:
    """A run as its files describe it."""

    spec: RunSpec
    """its `run_id` is the id under which the run is shown"""
    path: Path
    phase: Phase
    ending: Ending
    """`silent`: it ended without recording how, or its directory was copied while it ran"""
    step: int
    """learner steps done"""
    of: int
    """learner steps to do"""
    seen_at: float
    """its last sign of life, seconds since the epoch"""
    error: str | None
    records: list[StepRecord]
    """of the surviving lineage"""
    evaluations: dict[int, dict[int, float]]
    """learner steps done → k → pass@k"""
    rollouts: list[SampledRollout]
    """the newest ones, oldest first"""
    state: SavedState
    """the documents that a live run has in Redis only"""

    @property
    def run_id(self) -> str:
        """The id under which the run is shown."""
        return self.spec.run_id

    def sentence(self) -> str:
        """How and when the run ended, for people."""
        where = f"at step {self.step} of {self.of}, {_age(time.time() - self.seen_at)} ago"
        match self.ending:
            case "finished" | "failed":
                return f"it {self.ending} {where}"
            case "stopped":
                return f"it was stopped {where}"
            case "silent":
                return f"it ended without a word {where} (killed, or copied while it ran)"
            case "live":
                return f"it is live ({self.phase} {where}), and its control plane does not answer"


def read_run(path: Path, run_id: str) -> RecordedRun:
    """Read a run directory, to be shown as `run_id`.

    Raises ScopeError when it is not one, has another format, or has a file that cannot be read.
    """
    if not (path / CONFIG_FILE).is_file():
        raise ScopeError(f"{path} is not a run directory: it has no {CONFIG_FILE}.")
    try:
        check_format(path)
        return _read(path, run_id, _config(path / CONFIG_FILE))
    except _UNREADABLE as error:
        cause = " ".join(f"{error}".split())[:LONGEST_CAUSE]
        raise ScopeError(
            f"A record of the run in {path} cannot be read: {type(error).__name__}: {cause}."
        ) from error


def _read(path: Path, run_id: str, config: RunConfig) -> RecordedRun:
    # Asked before the state is read: a driver that ends in between has written its last state by then.
    driven = is_driven(path)
    saved = read_saved(path)
    status = {} if saved is None else saved.hashes.get("status", {})
    records = read_records(path / STEPS)
    report: dict[str, Any] = json.loads((path / REPORT).read_text()) if (path / REPORT).is_file() else {}
    phase, ending = _ending(status.get("phase"), driven=driven, reported=bool(report))
    if saved is not None and phase in ENDED and ending != "silent":
        # Steps that the learner rolled back before it ended are still in the file.
        records = [record for record in records if record.step < int(status.get("step", 0))]
    step = records[-1].step + 1 if records else 0
    if ending == "finished" and step < config.steps:
        ending = "stopped"
    written = records[-1].at if records else (path / CONFIG_FILE).stat().st_mtime
    seen_at = max(written, float(status.get("heartbeat", 0)))
    return RecordedRun(
        spec=_spec(run_id, config, saved, records, seen_at, report),
        path=path,
        phase=phase,
        ending=ending,
        step=step,
        of=config.steps,
        seen_at=seen_at,
        error=_SILENT if ending == "silent" else status.get("error"),
        records=records,
        evaluations={
            found.step: {k: float(found.at(k).mean()) for k in found.ks}
            for found in Evaluations(path / EVALUATIONS).all
        },
        rollouts=read_file(path, RolloutFilter(), MOST_ROLLOUTS)[::-1],
        state=saved or state_of(run_id, records, seen_at),
    )


def _config(path: Path) -> RunConfig:
    try:
        # A run writes no alias; those in a stranger's file could expand without bounds.
        alias = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(path.read_text()))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ScopeError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
    if alias:
        raise ScopeError(f"{path} was not written by a run: it contains a YAML alias.")
    try:
        return load_config(path)
    except ScopeError as error:
        raise ScopeError(
            f"{path} is not a configuration of this version: {' '.join(str(error).split())}"
        ) from error


def _ending(phase: str | None, *, driven: bool, reported: bool) -> tuple[Phase, Ending]:
    """The phase to show, and how the run ended. phase: the saved one; None without a saved state."""
    if phase == "failed":
        return "failed", "failed"
    if phase == "finished" or (phase is None and reported):
        return "finished", "finished"
    if driven:
        return cast("Phase", phase or "starting"), "live"
    return "failed", "silent"


def _spec(
    run_id: str,
    config: RunConfig,
    saved: SavedState | None,
    records: list[StepRecord],
    seen_at: float,
    report: dict[str, Any],
) -> RunSpec:
    stored = None if saved is None else saved.strings.get("spec")
    known = None if stored is None else RunSpec.model_validate_json(stored)
    began = records[0].at - records[0].step_seconds if records else seen_at
    spec = RunSpec(
        run_id=run_id,
        config=config.model_dump(mode="json"),
        config_hash=config_hash(config),
        started_at=began if known is None else known.started_at,
        versions=report.get("versions", {}) if known is None else known.versions,
        recorded_at=seen_at if saved is None else max(seen_at, saved.saved_at),
    )
    for at in (seen_at, spec.started_at, spec.recorded_at or 0.0):
        # Raises for a time that no reader could show.
        datetime.fromtimestamp(at, UTC)
    return spec


def _age(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
