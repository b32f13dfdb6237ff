"""Helpers for the tests of control plane routes: a run, and checks of responses. `conftest.py` has the fixtures."""

from services.entropy_target.documents import DesiredTarget
from services.entropy_target.store import read_entropy_target
from services.run.state import RunSpec
from tests.support.runs.registered_run import register_run
from trainer.config import ControlPlaneConfig
from trainer.config.load import config_hash, validate_config

AMPLE = ControlPlaneConfig(reads_per_minute=10**9, writes_per_minute=10**9)
"""high enough that no test reaches them"""

JSON = {"Content-Type": "application/json"}


def start_run(redis, run_id: str, *, regularizer: str = "none", **control) -> None:
    config = validate_config(
        {
            "entropy_control": {"target": 0.4, "target_max_change": 0.5, **control},
            "regularizer": {"kind": regularizer},
        }
    )
    spec = RunSpec(
        run_id=run_id,
        config=config.model_dump(mode="json"),
        config_hash=config_hash(config),
        started_at=1000.0,
        versions={"ray": "2.60.0"},
    )
    register_run(redis, run_id, spec)


def target_path(run: str) -> str:
    return f"/v1/runs/{run}/entropy-target"


def entropy_target_of(redis, run: str) -> DesiredTarget:
    document = read_entropy_target(redis, run)
    assert document is not None
    return document


def is_problem(response, status: int) -> dict:
    """Check that the body is an RFC 9457 problem response."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"]
    assert body["title"]
    assert body["instance"] == response.url.path
    return body
