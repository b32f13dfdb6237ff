"""Runs a comparison: skips finished units, runs the others, and writes the tables and plots."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from services.compare import full_system
from services.compare.plan import Plan, Unit
from services.compare.pool import Job, Pool
from services.compare.request import STEPS_FILE, write_request
from services.compare.results import RESULT_FILE, read_result, write_result
from services.compare.unit_saves import UnitSaves
from services.driver.progress import Progress
from services.host.children import ChildProcess, start_child
from services.host.interrupts import exit_status
from services.host.terminal import plain_lines, write
from trainer.config.load import validate_config
from trainer.errors import ScopeError
from trainer.files import write_atomically

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
_DISTRIBUTED = ("pipeline.", "redis.", "checkpoint.", "control_plane.", "ray.", "weights.")
"""blocks that a run in one process does not read"""
BEFORE: dict[str, Any] = {
    "entropy_control.split_range.gain_memory": 0.0,
    "entropy_control.evidence_floor": 0.0,
}
"""Values that apply to results without the field, where the field's default has another effect."""
REMOVED = ("entropy_control.split_range.filter_steps",)
"""Fields of the configuration that only older results have. A result of the law that read one is of another law."""

StartInProcess = Callable[[Path, Path], ChildProcess]
"""request, log file → the process that runs the request"""


def start_in_process(request: Path, log: Path) -> ChildProcess:
    """Start the process of one unit."""
    return start_child([sys.executable, "-m", "services.compare.in_process", str(request)], log, ONE_THREAD)


def compare(
    plan: Plan,
    progress: Progress,
    *,
    arguments: Sequence[str],
    start_unit: StartInProcess = start_in_process,
) -> int:
    """Run the unfinished units, then write `comparison.json`, `comparison.md` and the plots; returns the exit status.

    arguments: the command line of `scope`, recorded in the report. Raises ScopeError when a unit fails, or when a
    finished unit has another configuration.
    """
    with locked(plan.out, "scope compare"):
        pending = [unit for unit in plan.units if not is_finished(plan, unit)]
        done = len(plan.units) - len(pending)
        progress.say(f"{len(plan.units)} units ({plan.source}), {done} of them finished, in {plan.out}")
        if pending and plan.source == "in-process":
            make_starting_models(pending, progress)
        jobs = [make_job(plan, unit, start_unit) for unit in pending]
        try:
            Pool(jobs, plan.parallel, progress, done=done).run()
        except KeyboardInterrupt as interrupt:
            progress.say(f"stopped; finished units are kept. Continue with: scope {shlex.join(arguments)}")
            return exit_status(interrupt)
        _write_out(plan, progress, arguments)
    return 0


def _write_out(plan: Plan, progress: Progress, arguments: Sequence[str]) -> None:
    from services.compare.plots import plot_all
    from services.compare.report import markdown, terminal
    from services.compare.table import comparison

    results = {unit.name: read_result(unit_directory(plan, unit)) for unit in plan.units}
    groups = {
        label: [results[unit.name] for unit in plan.units if unit.label == label] for label in plan.labels
    }
    document: dict[str, Any] = {
        "title": f"{plan.config_path.stem}: {', '.join(plan.labels)}",
        "command": f"scope {shlex.join(arguments)}",
        "source": plan.source,
        "versions": _distinct(result.versions for result in results.values()),
        "machines": _distinct(result.machine for result in results.values()),
        "settings": {label: units[0].settings for label, units in groups.items()},
        "config_hashes": {name: result.config_hash for name, result in results.items()},
        **comparison(groups),
    }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_atomically(plan.out / "comparison.json", text.encode())
    pictures = plot_all(plan.out, groups, document)
    write_atomically(plan.out / "comparison.md", markdown(document, pictures).encode())
    write(f"\n{plain_lines(terminal(document))}\n\n", sys.stdout)
    progress.say(f"results: {plan.out}/comparison.md, comparison.json, {', '.join(pictures)}")


def is_finished(plan: Plan, unit: Unit) -> bool:
    """Whether the unit has a result. Raises ScopeError when the result has another configuration than the unit.

    A field that the result lacks has its value in `BEFORE`, or else its default.
    """
    directory = unit_directory(plan, unit)
    if not (directory / RESULT_FILE).exists():
        if plan.source == "in-process" or not full_system.is_complete(plan, unit):
            return False
        directory.mkdir(parents=True, exist_ok=True)
        write_result(directory, full_system.collect(plan, unit))
    try:
        result = read_result(directory)
    except msgspec.DecodeError as error:
        raise ScopeError(
            f"{directory / RESULT_FILE} is not a result of this version: {error}. Move it aside."
        ) from error
    removed = leaves(result.config)
    removed = {name: removed[name] for name in REMOVED if name in removed}
    try:
        made_with = validate_config(_without(result.config, removed)).model_dump(mode="json")
    except ScopeError as error:
        raise ScopeError(
            f"The finished unit {directory} was made with a configuration that this version does not accept. Choose "
            f"another --out, or move that directory aside. {error}"
        ) from error
    there = leaves({"source": result.source, "--evaluate-every": result.evaluate_every, **made_with})
    there |= {name: value for name, value in BEFORE.items() if name not in leaves(result.config)}
    law = f"entropy_control.{made_with['entropy_control']['kind']}."
    there |= {name: value for name, value in removed.items() if name.startswith(law)}
    here = leaves(
        {
            "source": plan.source,
            "--evaluate-every": plan.evaluate_every,
            **unit.config.model_dump(mode="json"),
        }
    )
    differing = differences(there, here, in_process=plan.source == "in-process")
    if differing:
        shown = ", ".join(
            f"{name} = {there.get(name)!r} there, {here.get(name)!r} now" for name in differing[:3]
        )
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ScopeError(
            f"The finished unit {directory} was made with another configuration: {shown}{more}. Choose another --out, "
            "or move that directory aside."
        )
    return True


def differences(there: Mapping[str, Any], here: Mapping[str, Any], *, in_process: bool) -> list[str]:
    """List the dotted fields that differ between two configurations and that a run of this kind reads."""
    return [
        name
        for name in {**here, **there}
        if here.get(name) != there.get(name)
        and name != "runs_dir"
        and not (in_process and name.startswith(_DISTRIBUTED) and name != "pipeline.max_staleness")
    ]


def _distinct(values: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop repeated values; keeps the order."""
    found: list[dict[str, Any]] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _without(tree: dict[str, Any], names: Iterable[str], prefix: str = "") -> dict[str, Any]:
    return {
        name: _without(value, names, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in tree.items()
        if f"{prefix}{name}" not in names
    }


def unit_directory(plan: Plan, unit: Unit) -> Path:
    """Return the directory of a unit's request, log and result."""
    return plan.out / "units" / unit.name


def make_starting_models(pending: Sequence[Unit], progress: Progress) -> None:
    """Make the starting models before any unit runs, so that parallel units do not all make them."""
    from transformers.utils.logging import disable_progress_bar

    from services.compare.in_process import starting_model

    disable_progress_bar()
    for unit in pending:
        starting_model(unit.config, progress.warm_start)


def make_job(plan: Plan, unit: Unit, start_unit: StartInProcess) -> Job:
    """Make an unfinished unit ready to run: its directory, its request, and how its process starts."""
    directory = unit_directory(plan, unit)
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "log.txt"
    if plan.source == "in-process":
        UnitSaves(directory, unit.config.model_dump(mode="json"), plan.evaluate_every).cut_files()
        request = write_request(directory, unit, plan)
        return Job(
            name=unit.name,
            steps=unit.config.steps,
            start=lambda: start_unit(request, log),
            step_file=directory / STEPS_FILE,
            log=log,
            finish=lambda: None,
        )
    command = full_system.command(plan, unit, directory)
    return Job(
        name=unit.name,
        steps=unit.config.steps,
        start=lambda: start_child(command, log, {}),
        step_file=full_system.run_directory(plan, unit) / "steps.jsonl",
        log=log,
        finish=lambda: write_result(directory, full_system.collect(plan, unit)),
    )


@contextmanager
def locked(out: Path, command: str) -> Iterator[None]:
    """Create the output directory if needed, and lock it for this process. command: named if it is locked already."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ScopeError(
            f"--out {out} cannot be used: {error.strerror}. It must be a directory that this user can write."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ScopeError(f"--out {out} is in use by another {command}.") from error
    try:
        yield
    finally:
        os.close(descriptor)
