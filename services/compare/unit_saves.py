"""The saves of a unit that runs in one process, from which it continues after an interruption.

A save is one directory: the run, and the steps and evaluations until then. A newer save replaces it whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from services.compare.request import EVALUATIONS_FILE, STEPS_FILE
from services.compare.results import EvaluationPoint, StepPoint
from trainer.files import replaced_directory, write_atomically

if TYPE_CHECKING:
    from trainer.in_process.run import InProcessRun

SAVE_DIRECTORY = "saved"
MADE_FILE = "made.json"


class Made(msgspec.Struct, kw_only=True):
    """What a unit has made until its next learner step."""

    config: dict[str, Any]
    """the configuration of the unit, as in its request"""
    evaluate_every: int
    steps: list[StepPoint] = []
    evaluations: list[EvaluationPoint] = []


class UnitSaves:
    """The newest save of the unit in `directory`, which runs `config` and evaluates every `evaluate_every` steps."""

    def __init__(self, directory: Path, config: dict[str, Any], evaluate_every: int) -> None:
        self._directory, self._place = directory, directory / SAVE_DIRECTORY
        self._new = Made(config=config, evaluate_every=evaluate_every)

    def made(self) -> Made:
        """What was made until the save; nothing without a save, and after one of another configuration."""
        try:
            text = (self._place / MADE_FILE).read_bytes()
            found = msgspec.json.decode(text, type=Made)
        except (FileNotFoundError, msgspec.DecodeError):
            # A version with other fields cannot continue the run either.
            return self._new
        same = (found.config, found.evaluate_every) == (self._new.config, self._new.evaluate_every)
        return found if same else self._new

    def cut_files(self) -> None:
        """Cut the files of steps and evaluations back to the save, because what came after it is made again."""
        made = self.made()
        for name, points in ((STEPS_FILE, made.steps), (EVALUATIONS_FILE, made.evaluations)):
            write_atomically(
                self._directory / name, b"".join(msgspec.json.encode(point) + b"\n" for point in points)
            )

    def resume(self, run: InProcessRun) -> Made:
        """Continue `run` from the save if there is one; returns what was made until then."""
        made = self.made()
        if made.evaluations:
            run.resume(self._place)
        return made

    def save(self, run: InProcessRun, made: Made) -> None:
        """Save `run` and what it has made."""
        with replaced_directory(self._place) as writing:
            run.save(writing)
            (writing / MADE_FILE).write_bytes(msgspec.json.encode(made))

    def remove(self) -> None:
        """Remove the save of a finished unit."""
        shutil.rmtree(self._place, ignore_errors=True)
