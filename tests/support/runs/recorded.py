"""A run directory as a run leaves it, made from step records in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from redis import Redis

from services.access.tokens import register_token
from services.entropy_target.store import change_entropy_target, mark_applied
from services.records.sampled_rollouts import RolloutFile
from services.records.sinks import JsonLines
from services.recorded.saved_state import FILE, StateFile
from services.redis.access import RedisAccess
from services.results.evaluations import EVALUATIONS, Evaluations
from services.run.control import request_action
from services.run.directory import write_format
from services.run.heartbeats import beat
from services.run.state import RunSpec, update_status
from tests.support.runs.registered_run import register_run
from tests.support.sampled_rollouts import rollout
from tests.support.step_records import record
from trainer.config.load import config_hash, dump_yaml, validate_config

STEPS = 6
TARGET = 0.35
"""set by ada before step 3"""


def make_run_directory(path: Path, redis: Redis, access: RedisAccess) -> None:
    """Write the files of a run of `STEPS` steps that has finished; its Redis documents are those of `path.name`."""
    run_id = path.name
    config = validate_config(
        {"steps": STEPS, "entropy_control": {"target": 0.4, "target_max_change": 0.5}, "evaluation": {"ks": [1, 4]}}
    )
    path.mkdir(parents=True)
    write_format(path)
    (path / "config.yaml").write_text(dump_yaml(config))
    (path / ".lock").touch()
    spec = RunSpec(
        run_id=run_id,
        config=config.model_dump(mode="json"),
        config_hash=config_hash(config),
        started_at=1000.0,
        versions={"ray": "2.60.0"},
    )
    register_run(redis, run_id, spec)
    register_token(redis, run_id, f"scope_{run_id}_0123456789abcdef", "owner", "admin")
    sink = JsonLines(path / "steps.jsonl")
    with StateFile(path, run_id, access):
        for step in range(STEPS):
            if step == 3:
                change_entropy_target(redis, run_id, TARGET, "ada", config.entropy_control)
            newest = record(step, entropy_target=0.4 if step < 3 else TARGET, entropy_target_generation=1 + step // 3)
            mark_applied(redis, run_id, newest.entropy_target_generation, step, 0, newest.entropy_target)
            sink.write(newest)
        sink.close()
        evaluations = Evaluations(path / EVALUATIONS)
        evaluations.add(0, [2, 4, 0], config.evaluation)
        evaluations.add(STEPS, [8, 8, 4], config.evaluation)
        RolloutFile(path, 1 << 20).append([rollout(step, prompt=f"prompt of step {step}") for step in range(STEPS)])
        (path / "report.json").write_text(json.dumps({"versions": {"ray": "2.60.0"}, "run_id": run_id}))
        beat(redis, run_id, "base-generator-0", {"role": "base", "state": "stopped", "step": STEPS, "in_flight": 0, "restarts": 0})
        request_action(redis, run_id, "checkpoint", "ada")
        document = msgspec.to_builtins(newest, str_keys=True)
        update_status(redis, run_id, phase="finished", step=STEPS, record=document)


def change_status(path: Path, **fields: Any) -> None:
    """Change the saved status of a run directory."""
    state = json.loads((path / FILE).read_text())
    state["hashes"]["status"] |= {name: str(value) for name, value in fields.items()}
    (path / FILE).write_text(json.dumps(state))


def keep_steps(path: Path, steps: int) -> None:
    """Leave the first steps of a run directory only, as if it had ended there."""
    lines = (path / "steps.jsonl").read_bytes().splitlines(keepends=True)
    (path / "steps.jsonl").write_bytes(b"".join(lines[:steps]))
    (path / "report.json").unlink(missing_ok=True)
    change_status(path, step=steps)
