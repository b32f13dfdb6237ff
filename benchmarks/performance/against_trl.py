"""This system against TRL's GRPOTrainer on the same cores: same model, prompts, group size and number of updates.

    .venv/bin/python benchmarks/performance/against_trl.py

TRL generates with transformers, since its vLLM modes do not work on CPUs; it is installed into its own environment
under runs/. TRL runs plain GRPO. Ours runs SCOPE, which also samples and trains on an equal number of adaptive
rollouts; they count in its samples and tokens. The two run one after the other, each with both cores. Speeds exclude
the first `--warm` steps. pass@1 of both final policies is measured by the same code on the same held-out problems.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

import torch  # noqa: E402
from transformers import Qwen3ForCausalLM  # noqa: E402
from transformers import __version__ as transformers_version  # noqa: E402

from benchmarks.performance.shared import REPOSITORY, keep  # noqa: E402
from services.records.sinks import read_records  # noqa: E402
from services.results.export import export  # noqa: E402
from trainer.config import RunConfig  # noqa: E402
from trainer.config.load import dump_yaml, load_config  # noqa: E402
from trainer.policy.evaluate import measure  # noqa: E402
from trainer.prompts.codec import PromptCodec  # noqa: E402
from trainer.starting_model.warm_start import ensure_warm_start  # noqa: E402
from trainer.starting_model.warm_start_result import WarmStart  # noqa: E402
from trainer.tasks import make_task  # noqa: E402
from trainer.tasks.verification import Verification  # noqa: E402

TRL = "1.16.0"
ENVIRONMENT = REPOSITORY / "runs" / "trl-environment"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
CONFIG = REPOSITORY / "deploy" / "configs" / "countdown-cpu.yaml"
HELD_OUT, SAMPLES = 128, 8
ALONE = [
    "control_plane.enabled=false",
    "ray.dashboard=false",
    "evaluation.problems=8",
    "evaluation.samples=4",
    "evaluation.ks=[1,4]",
]


@dataclass(frozen=True)
class Case:
    """One comparison."""

    steps: int
    settings: list[str] = field(default_factory=list)
    keep_every: int = 0
    """learner steps between two policies that are kept; 0 keeps only the last"""


SHORT = ["rollout.prompts_per_step=32", "rollout.base_samples=16", "rollout.adaptive_samples=16"]
CASES = {
    "short": Case(60, SHORT),
    "long-tail": Case(
        8,
        [
            "task.name=long_tail:LongTail",
            f"task.folder={Path(__file__).parent}",
            "task.heldout=256",
            "model.hidden_size=256",
            "model.layers=6",
            "model.heads=4",
            "model.ffn_size=1024",
            "model.max_length=400",
            "warm_start.steps=40",
            "warm_start.batch_size=32",
            "warm_start.threads=2",
            "rollout.prompts_per_step=16",
            "rollout.base_samples=8",
            "rollout.adaptive_samples=8",
            "rollout.max_new_tokens=384",
            "learner.micro_batching=tokens",
            "entropy_control.target=auto",
        ],
    ),
}


def main() -> None:
    """Measure, print the table, write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--steps", type=int, help="learner steps of each case, instead of its own number")
    parser.add_argument("--warm", type=int, default=2, help="first steps, excluded from the speeds")
    parser.add_argument("--threads", type=int, default=2, help="threads of TRL")
    options = parser.parse_args()
    python = trl_environment()
    document: dict[str, Any] = {"trl": TRL, "threads_of_trl": options.threads, "cases": {}}
    for name in options.cases:
        case = CASES[name]
        steps = options.steps or case.steps
        with tempfile.TemporaryDirectory(prefix="scope-trl-") as folder:
            document["cases"][name] = compare(Path(folder), case, steps, python, options)
        table(name, document["cases"][name])
    keep("performance-trl", document)


def trl_environment() -> Path:
    """The Python of TRL's environment, which the first call installs."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / f"trl-{TRL}"
    if not stamp.exists():
        print(f"installing TRL {TRL} into {ENVIRONMENT.relative_to(REPOSITORY)}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "-q"]
        # A separate call: where the second index is unreachable, pip would retry it for every package.
        subprocess.run(
            [*install, "--extra-index-url", TORCH_INDEX, f"torch=={torch.__version__}"], check=True
        )
        wanted = [f"trl=={TRL}", f"transformers=={transformers_version}", "msgspec", "numpy"]
        subprocess.run([*install, *wanted, "pydantic>=2.14,<3", "pyyaml", "httpx", "pebble"], check=True)
        stamp.touch()
    return python


def compare(
    folder: Path, case: Case, steps: int, python: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Run both sides of one case and measure pass@1 of both final policies."""
    config, sides = run_both(folder, case, steps, python, options)
    for side in sides.values():
        side["pass@1"] = pass_at_1(config, Path(side.pop("model")))
        del side["kept"]
    warm, trl, ours = warm_start(config), sides["trl"], sides["ours"]
    return {
        "steps": steps,
        "updates": steps * config.loss.minibatches,
        "parameters": warm.parameters,
        "start_pass@1": pass_at_1(config, warm.path),
        **sides,
        "ours_over_trl": {
            name: ours[name] / trl[name] for name in ("samples_per_second", "tokens_per_second")
        }
        | {"wall_clock": trl["seconds"] / ours["seconds"]},
    }


def run_both(
    folder: Path, case: Case, steps: int, python: Path, options: argparse.Namespace
) -> tuple[RunConfig, dict[str, dict[str, Any]]]:
    """Run both sides. Returns the configuration, and each side's figures, final policy and kept policies.

    A kept policy is a pair of its time, in seconds since the side's command, and its folder.
    """
    settings = [*ALONE, *case.settings, f"steps={steps}", f"runs_dir={folder / 'runs'}"]
    config = load_config(CONFIG, settings)
    job = {"model": str(warm_start(config).path), "steps": steps, "keep_every": case.keep_every}
    trl = run_trl(folder, config, job, python, options)
    return config, {"trl": trl, "ours": run_ours(folder, settings, case.keep_every, options)}


def warm_start(config: RunConfig) -> WarmStart:
    """The starting model of both sides."""
    return ensure_warm_start(config, Path(config.warm_start.cache_dir).expanduser(), lambda _: None)


def run_trl(
    folder: Path, config: RunConfig, job: dict[str, Any], python: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Run GRPOTrainer in its environment and return its figures. Raises SystemExit if it fails."""
    out = folder / "trl"
    out.mkdir()
    (folder / "config.yaml").write_text(dump_yaml(config))
    job |= {"config": str(folder / "config.yaml"), "out": str(out), "threads": options.threads}
    (folder / "job.json").write_text(json.dumps(job))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(options.threads)}
    started = time.time()
    command = [str(python), str(Path(__file__).parent / "trl_side.py"), str(folder / "job.json")]
    with (folder / "trl.log").open("w") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"TRL failed:\n{(folder / 'trl.log').read_text()[-4000:]}")
    result = json.loads((out / "result.json").read_text())
    ends, first = result["step_ends"], options.warm
    seconds = ends[-1] - ends[first - 1]
    samples = config.rollout.prompts_per_step * config.rollout.base_samples
    return {
        "seconds": time.time() - started,
        "first_step_seconds": ends[0] - started,
        "step_seconds": seconds / (len(ends) - first),
        "samples_per_second": samples * (len(ends) - first) / seconds,
        "tokens_per_second": sum(result["tokens"][first : len(ends)]) / seconds,
        "model": str(out / "model"),
        "kept": [(at - started, path) for at, path in result["kept"]],
    }


def run_ours(
    folder: Path, settings: list[str], keep_every: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Run `scope train` and return its figures. Raises SystemExit if it fails."""
    if keep_every:
        settings = [*settings, f"checkpoint.every_steps={keep_every}", "checkpoint.keep=1000"]
    sets = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "services.cli", "train", str(CONFIG), "--run-id", "ours", *sets]
    started = time.time()
    with (folder / "ours.log").open("w") as log:
        done = subprocess.run(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"the run failed:\n{(folder / 'ours.log').read_text()[-4000:]}")
    ended = time.time()
    run = folder / "runs" / "ours"
    records, first = read_records(run / "steps.jsonl"), options.warm
    seconds = records[-1].at - records[first - 1].at
    counted = records[first:]
    kept = []
    for step in range(keep_every, len(records) + 1, keep_every) if keep_every else ():
        export(run, step, folder / f"step-{step}")
        kept.append((records[step - 1].at - started, str(folder / f"step-{step}")))
    return {
        "seconds": ended - started,
        "first_step_seconds": records[0].at - started,
        "step_seconds": seconds / len(counted),
        "samples_per_second": sum(sum(r.staleness.values()) for r in counted) / seconds,
        "tokens_per_second": sum(r.tokens for r in counted) / seconds,
        "model": str(run / "model"),
        "kept": kept,
    }


def pass_at_1(config: RunConfig, model_dir: Path) -> float:
    """pass@1 of a model on held-out problems."""
    task = make_task(config.task)
    found = measure(
        Qwen3ForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval(),
        PromptCodec.load(model_dir, config),
        Verification(task, config.task),
        [task.heldout_problem(i) for i in range(HELD_OUT)],
        samples=SAMPLES,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=7,
    )
    return found.pass_at_1


def table(name: str, case: dict[str, Any]) -> None:
    """Print the figures of both sides of one case."""
    print(
        f"\n{name}: {case['parameters']:,} parameters, {case['steps']} steps, {case['updates']} updates in total"
    )
    print(f"{'':32}{'TRL':>12}{'ours':>12}{'ours / TRL':>12}")
    for what, label in (
        ("samples_per_second", "samples/s, both roles"),
        ("tokens_per_second", "trained tokens/s, both roles"),
        ("step_seconds", "seconds a step"),
        ("first_step_seconds", "seconds to the first step"),
        ("seconds", "seconds in all, start included"),
        ("pass@1", f"pass@1 (start {case['start_pass@1']:.3f})"),
    ):
        trl, ours = case["trl"][what], case["ours"][what]
        digits = 3 if what == "pass@1" else 1 if trl >= 100 else 2
        print(f"{label:32}{trl:>12,.{digits}f}{ours:>12,.{digits}f}{ours / trl:>12.2f}")


if __name__ == "__main__":
    main()
