"""Runs an evaluation: divides its problems among engines in processes, waits for them, and summarizes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from services.driver.progress import Progress
from services.evaluation.devices import VARIABLE, share_devices, visible_devices
from services.evaluation.plan import EvaluationPlan
from services.evaluation.results import RESULT, ResultsFolder
from services.evaluation.summary import summarize
from services.evaluation.worker import WorkerSpec
from services.host.children import start_child
from services.host.environment import machine, package_versions
from services.host.interrupts import signals_as_interrupts
from services.host.private_folder import PrivateFolder
from services.inference.environment import engine_environment
from trainer.errors import ScopeError
from trainer.files import explained_if_unwritable, write_atomically
from trainer.prompts.codec import PromptCodec
from trainer.rendezvous import OVER_LOOPBACK
from trainer.rollouts.usable_problems import UsableProblems

POLL_SECONDS = 0.3
REPORT_SECONDS = 20.0
END_SECONDS = 2.0
"""how long an engine may take to end; each of its results is on disk when it has it"""


def evaluate(plan: EvaluationPlan, out: Path, *, engines: int, progress: Progress) -> dict[str, Any]:
    """Evaluate the problems of the plan that have no result yet; returns the summary, which is also written to `out`.

    Raises ScopeError when `out` cannot be written, when there are too few GPUs for the engines, or when an engine
    failed. Results are kept, and the same call continues from them.
    """
    if engines < 1:
        raise ScopeError(f"--engines={engines} is not allowed: at least 1.")
    with explained_if_unwritable(out, "--out"):
        return _evaluate(plan, out, engines, progress)


def _evaluate(plan: EvaluationPlan, out: Path, engines: int, progress: Progress) -> dict[str, Any]:
    folder = ResultsFolder(out, plan)
    wanted, notes = _problems(plan)
    for note in notes:
        progress.say(note)
    done = folder.results()
    left = [place for place in wanted if place not in done]
    before = len(wanted) - len(left)
    progress.say(
        f"{len(wanted)} problems, {plan.sampling.samples} responses each"
        f"{f'; {before} already done' if before else ''}; results in {out}"
    )
    started = time.monotonic()
    if left:
        _sample(plan, folder, left, min(engines, len(left)), progress)
    folder.settle(plan)
    found = folder.results()
    document = {
        "model": plan.model,
        "plan": plan.digest,
        "sampling": msgspec.to_builtins(plan.sampling),
        "engines": engines,
        "seconds": time.monotonic() - started,
        "resumed_after": before,
        "machine": machine(),
        "versions": package_versions(),
        "tasks": {
            task.label: summarize(
                [found[place] for place in wanted if place[0] == task.label],
                plan.sampling.samples,
                plan.sampling.ks,
            )
            for task in plan.tasks
        },
    }
    write_atomically(out / RESULT, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    return document


def _problems(plan: EvaluationPlan) -> tuple[list[tuple[str, int]], list[str]]:
    """Return task label and index of every problem, and notes on those that are left out.

    Makes each task and encodes its prompts, so that errors surface before an engine starts.
    """
    found, notes = [], []
    for planned in plan.tasks:
        task, config = planned.make(), planned.run_config
        if not task.heldout_size:
            raise ScopeError(f"the task {planned.label} has no held-out problem")
        codec = PromptCodec.load(Path(plan.model), config)
        problems = UsableProblems(task, config, codec)
        usable = problems.heldout_indices(plan.sampling.max_problems or task.heldout_size)
        if not usable:
            first = task.heldout_problem(0)
            raise ScopeError(
                f"no problem of the task {planned.label} can be a prompt; the first is {first.id!r}: "
                f"{codec.unusable(first)}"
            )
        if left := usable[-1] + 1 - len(usable):
            notes.append(
                f"the task {planned.label}: {left:,} problems are left out, because they cannot be prompts (too "
                "long, or refused by the chat template)"
            )
        found += [(planned.label, index) for index in usable]
    return found, notes


def _sample(
    plan: EvaluationPlan,
    folder: ResultsFolder,
    left: Sequence[tuple[str, int]],
    engines: int,
    progress: Progress,
) -> None:
    # The engines run here, wherever those of the run did.
    environment = engine_environment(plan.tasks[0].run_config) | OVER_LOOPBACK
    if any(engine_environment(task.run_config)["HF_HUB_OFFLINE"] == "0" for task in plan.tasks):
        environment["HF_HUB_OFFLINE"] = "0"
    devices = share_devices(engines, plan.engine, visible_devices())
    environments = [environment | ({VARIABLE: ",".join(of)} if of else {}) for of in devices]
    with _engines(plan, folder, left, environments) as (processes, parts, log):
        progress.say(f"starting {engines} engine(s), log {log}")
        reported = time.monotonic()
        running = dict(enumerate(processes))
        while running:
            time.sleep(POLL_SECONDS)
            for number, process in list(running.items()):
                status = process.poll()
                if status:
                    raise ScopeError(
                        f"engine {number} ended: {_reason(log, status)} (log: {log}). Run the same command again to "
                        "continue."
                    )
                if status == 0:
                    del running[number]
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                finished = sum(part.read_bytes().count(b"\n") for part in parts)
                progress.say(f"{finished} of {len(left)} problems")


@contextlib.contextmanager
def _engines(
    plan: EvaluationPlan,
    folder: ResultsFolder,
    left: Sequence[tuple[str, int]],
    environments: Sequence[dict[str, str]],
) -> Iterator[tuple[list[subprocess.Popen[bytes]], list[Path], Path]]:
    """Start a process in each environment; yields the processes, their part files and their log.

    The processes are stopped when the block ends, however it ends.
    """
    processes: list[subprocess.Popen[bytes]] = []
    parts, log = [], folder.path / "engines.log"
    # The engine's sockets are in it.
    with PrivateFolder() as temporary, signals_as_interrupts():
        try:
            for number, environment in enumerate(environments):
                part = folder.new_part(number)
                parts.append(part)
                share: dict[str, list[int]] = {}
                for label, index in left[number :: len(environments)]:
                    share.setdefault(label, []).append(index)
                # Each part has another seed, so that a continued evaluation does not repeat random numbers.
                seed = plan.sampling.seed + 7919 * int(part.name[:4])
                spec = part.with_suffix(".spec")
                spec.write_bytes(msgspec.json.encode(WorkerSpec(plan, share, str(part), seed)))
                command = [sys.executable, "-m", "services.evaluation.worker", str(spec)]
                processes.append(start_child(command, log, environment | {"TMPDIR": str(temporary.path)}))
            yield processes, parts, log
        finally:
            _stop(processes)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Terminate the processes that still run, then kill each one's session, which includes its engine."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + END_SECONDS
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reason(log: Path, status: int) -> str:
    """Why an engine ended: its own sentence, or the signal that killed it."""
    lines = log.read_text(errors="replace").splitlines()
    said = [line.removeprefix("scope: ") for line in lines if line.startswith("scope: ")]
    if said:
        return said[-1]
    if status < 0:
        name = signal.Signals(-status).name
        return f"{name} killed it{', perhaps for lack of memory' if name == 'SIGKILL' else ''}"
    return f"it said nothing of why (status {status})"
