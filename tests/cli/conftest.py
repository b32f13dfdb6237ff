"""A served control plane, and a run of which every text is hostile to a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from services.access.audit import audit_key
from services.access.tokens import TokenRecord, create_token
from services.cli.main import main
from services.control_plane.app import create_app
from services.control_plane.server import ServerThread
from services.entropy_target.store import change_entropy_target
from services.host.sockets import bind
from services.records.sampled_rollouts import RolloutFile, add_rollouts
from services.redis.access import RedisAccess
from services.redis.keys import RunKeys
from services.run.heartbeats import beat
from services.run.state import add_evaluation, update_status
from tests.support.command_line import Outcome, Scope
from tests.support.control_plane import AMPLE
from tests.support.hostile_text import HOSTILE
from tests.support.replay_harness import Queue, die
from tests.support.sampled_rollouts import rollout
from tests.support.step_records import record
from trainer.config import EntropyControlConfig


@pytest.fixture(scope="session")
def url(redis_access: RedisAccess) -> Iterator[str]:
    """The address of a control plane over the session's Redis."""
    listener = bind("127.0.0.1", 0)
    server = ServerThread(create_app(redis_access, AMPLE), listener)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.stop()


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scope:
    """Run `scope` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def scope(*arguments: str) -> Outcome:
        try:
            status = main(arguments)
        except SystemExit as end:
            status = int(end.code or 0)
        shown = capsys.readouterr()
        return Outcome(status, shown.out, shown.err)

    return scope


@pytest.fixture
def here(redis: Redis, run: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a started run under runs/, and an admin's token for it in the environment."""
    monkeypatch.setenv("SCOPE_TOKEN", create_token(redis, run, "ada", "admin"))
    directory = tmp_path / "runs" / run
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text("{}")
    (directory / "endpoint.json").write_text(json.dumps({"url": url, "run_id": run}))
    return directory


@pytest.fixture
def hostile(redis: Redis, redis_access: RedisAccess, run: str, here: Path) -> Iterator[Path]:
    """The directory of a run into which models, verifiers and people wrote `HOSTILE` wherever they can."""
    update_status(redis, run, phase="running", step=4, of=9, error=HOSTILE, record=shown(3))
    add_evaluation(redis, run, 4, {1: 0.5})
    beat(redis, run, HOSTILE, {"role": "base", "state": HOSTILE, "step": 3, "in_flight": 2, "restarts": 0})
    redis.xadd(
        audit_key(run),
        {**dict.fromkeys(("action", "by", "origin", "before", "after"), HOSTILE), "at": "1e9"},
    )
    change_entropy_target(redis, run, 0.41, HOSTILE, EntropyControlConfig())
    named = TokenRecord(name=HOSTILE, scope="viewer", created_at=1e9, created_by=HOSTILE)
    redis.hset(RunKeys(run).tokens, "0" * 64, named.model_dump_json())
    texts = dict.fromkeys(("prompt", "verdict", "finish", "group_id", "problem_id"), HOSTILE)
    written = [rollout(3, tokens=["ok", HOSTILE], logprobs=[-0.1, -2.0], **texts)]
    add_rollouts(redis, run, written, 10)
    RolloutFile(here, 1 << 20).append(written)
    queue = Queue(redis_access, run)
    die(queue, HOSTILE, HOSTILE)
    yield here
    queue.close()


def shown(step: int) -> dict[str, Any]:
    """A step record as the status holds it, with a hostile alarm."""
    return msgspec.to_builtins(record(step, alarms=[HOSTILE]), str_keys=True)
