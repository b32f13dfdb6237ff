"""The plan of a comparison: its controls and seeds, resolved and checked before anything starts. Torch-free."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.checks.preflight import preflight, preflight_learning
from services.run.ids import is_run_id
from trainer.config import RunConfig
from trainer.config.load import load_config
from trainer.config.paths import expanded
from trainer.config.presets import as_settings, preset
from trainer.errors import ScopeError

Source = Literal["in-process", "full system"]

SAMPLES = 64
"""responses to each held-out problem at the start and the end, unless the configuration or `--samples` sets them"""
EVALUATE_EVERY = 20
"""learner steps between evaluations during training, in one process"""
SAMPLES_BETWEEN = 16
"""most responses to each problem in the evaluations of one process between the first and the last"""
SHARED = ("seed", "runs_dir", "task", "evaluation", "model", "warm_start")
"""Fields and blocks that every control must share, because the comparison is made on them."""


@dataclass(frozen=True)
class Control:
    """A named entropy control with its overrides."""

    label: str
    preset: str
    settings: tuple[str, ...] = ()
    """`a.b=value`, applied after those of the preset"""


@dataclass(frozen=True)
class Unit:
    """One run of a comparison."""

    label: str
    preset: str
    seed: int
    settings: tuple[str, ...]
    """every override of the file, in order of application"""
    config: RunConfig

    @property
    def name(self) -> str:
        """Name of its directory and id of its run."""
        return f"{self.label}-s{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A comparison. The first label is the baseline."""

    config_path: Path
    out: Path
    source: Source
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    evaluate_every: int
    """learner steps between evaluations during training; 0: none"""
    parallel: int
    units: tuple[Unit, ...]
    """seed by seed, so that an unfinished comparison has whole seeds"""
    samples_between: int = SAMPLES_BETWEEN
    """most responses to each problem in the evaluations during training, in one process"""


def parse_controls(texts: Sequence[str]) -> list[Control]:
    """Parse controls given as `NAME`, `NAME:a.b=c,d.e=f` or `LABEL@NAME:…`, separated by commas.

    Raises ScopeError for an unknown name, and for a label that is not a file name or occurs twice.
    """
    controls: list[Control] = []
    for piece in (piece for text in texts for piece in _pieces(text)):
        head, _, rest = piece.partition(":")
        label, at, name = head.rpartition("@")
        preset(name)
        settings = tuple(_split(rest))
        controls.append(Control(label if at else _label(name, settings), name, settings))
    labels = [control.label for control in controls]
    for label in labels:
        if not is_run_id(label):
            raise ScopeError(
                f"--controls: the label {label!r} is not allowed: it must be 1 to 128 letters, digits, '.', '_' or "
                "'-', beginning with a letter or a digit."
            )
        if labels.count(label) > 1:
            raise ScopeError(
                f"--controls names {label!r} {labels.count(label)} times. Give each a label: LABEL@NAME:a.b=c."
            )
    if not controls:
        raise ScopeError("--controls names no control. Give one or more, such as --controls grpo,scope.")
    return controls


def make_plan(
    config_path: Path,
    controls: Sequence[str],
    *,
    seeds: int,
    first_seed: int | None = None,
    settings: Sequence[str] = (),
    out: Path | None = None,
    in_process: bool = False,
    parallel: int = 1,
    samples: int | None = None,
    evaluate_every: int | None = None,
) -> Plan:
    """Resolve and check every unit. Raises ScopeError; writes nothing."""
    for name, value in (("--seeds", seeds), ("--parallel", parallel)):
        if value < 1:
            raise ScopeError(f"{name} {value} is not allowed: it must be a whole number, at least 1.")
    if evaluate_every is not None and evaluate_every < 0:
        raise ScopeError(f"--evaluate-every {evaluate_every} is not allowed: steps, at least 1; 0 for none.")
    if evaluate_every and not in_process:
        raise ScopeError(
            f"--evaluate-every {evaluate_every} needs --in-process: the full system evaluates at the start and the end."
        )
    parsed = parse_controls(controls)
    common = load_config(config_path, settings)
    shared = [*settings, *evaluation_settings(common, samples)]
    first = common.seed if first_seed is None else first_seed
    chosen = tuple(range(first, first + seeds))
    out = Path(os.path.realpath(out or expanded(common.runs_dir) / f"compare-{config_path.stem}"))
    # Runs of the full system stand in the comparison's own directory.
    where = [] if in_process else [f"runs_dir={out / 'runs'}"]
    units = tuple(_unit(config_path, control, seed, shared, where) for seed in chosen for control in parsed)
    source: Source = "in-process" if in_process else "full system"
    _check(units, source, parallel)
    every = (EVALUATE_EVERY if evaluate_every is None else evaluate_every) if in_process else 0
    labels = tuple(control.label for control in parsed)
    return Plan(config_path, out, source, labels, chosen, every, parallel, units)


def _pieces(text: str) -> list[str]:
    """Split `a,b:x=1,y=2,c` into `a`, `b:x=1,y=2` and `c`: an assignment belongs to the control before it."""
    pieces: list[str] = []
    for part in _split(text):
        begins = "=" not in part or ":" in part.partition("=")[0]
        if begins or not pieces:
            pieces.append(part)
        else:
            pieces[-1] += f",{part}" if ":" in pieces[-1] else f":{part}"
    return pieces


def _split(text: str) -> list[str]:
    """Split at commas and drop empty parts; a comma inside brackets belongs to a value, such as a list."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _label(name: str, settings: Sequence[str]) -> str:
    parts = [name]
    for setting in settings:
        field, _, value = setting.partition("=")
        parts.append(re.sub(r"[^A-Za-z0-9._-]+", "-", f"{field.rpartition('.')[2]}-{value}"))
    return "-".join(parts)


def evaluation_settings(common: RunConfig, samples: int | None) -> list[str]:
    """Overrides that give enough samples for pass@k up to 64, unless another number was set."""
    fields_set = common.evaluation.model_fields_set
    if samples is not None and samples < 1:
        raise ScopeError(f"--samples {samples} is not allowed: it must be a whole number, at least 1.")
    if samples is None:
        samples = common.evaluation.samples if "samples" in fields_set else SAMPLES
    settings = [f"evaluation.samples={samples}"]
    if "ks" not in fields_set:
        settings.append(f"evaluation.ks={powers_of_two(samples)}")
    return settings


def powers_of_two(limit: int) -> list[int]:
    """Return 1, 2, 4, … up to `limit`."""
    return [2**i for i in range(limit.bit_length())]


def _unit(
    config_path: Path, control: Control, seed: int, shared: Sequence[str], where: Sequence[str]
) -> Unit:
    overrides = preset(control.preset)
    for setting in shared:
        field, _, _ = setting.partition("=")
        if field.strip() in overrides:
            raise ScopeError(
                f"--set {setting} would be overridden by the control {control.label}, which sets {field} itself. "
                f"Set it for single controls instead: --controls {control.preset}:{setting}."
            )
    for setting in control.settings:
        field = setting.partition("=")[0].strip()
        if field.partition(".")[0] in SHARED:
            raise ScopeError(
                f"--controls {control.label}: {field} must be the same for every control"
                + ("; choose seeds with --seeds and --first-seed." if field == "seed" else "; use --set.")
            )
    settings = (*shared, *as_settings(overrides), *control.settings, f"seed={seed}", *where)
    try:
        config = load_config(config_path, settings)
    except ScopeError as error:
        raise ScopeError(f"--controls {control.label}: {error}") from error
    return Unit(control.label, control.preset, seed, settings, config)


def _check(units: Sequence[Unit], source: Source, parallel: int) -> None:
    config = units[0].config
    if source == "in-process":
        preflight_learning(config)
        if config.evaluation.temperature != 1.0:
            raise ScopeError(
                f"evaluation.temperature = {config.evaluation.temperature} is not allowed with --in-process, only 1.0."
            )
        return
    preflight(config)
    if parallel == 1:
        return
    for field, taken in (
        ("control_plane.enabled", config.control_plane.enabled and config.control_plane.port is not None),
        ("ray.dashboard", config.ray.dashboard and config.ray.dashboard_port is not None),
    ):
        if taken:
            raise ScopeError(
                f"--parallel {parallel} runs of the full system cannot share one port: add --set {field}=false."
            )
