"""How the driver learns the outcome of the learner, with a real Ray Train job of two ranks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.driver.learner_job import LearnerJob
from services.learner.spec import LearnerSpec
from services.redis.access import RedisAccess
from tests.support.local_ray import local_ray
from tests.support.repository import ROOT
from trainer.config import RunConfig

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A local Ray for the module."""
    with local_ray(4, {"RAY_TRAIN_V2_ENABLED": "1", "PYTHONPATH": str(ROOT)}):
        yield


def test_a_fault_that_a_user_can_mend_arrives_in_its_own_words_and_is_permanent(
    tiny_model_dir: Path, tmp_path: Path, run_id: str
) -> None:
    job = LearnerJob(
        LearnerSpec(
            run_id=run_id,
            config=RunConfig.model_validate({"learner": {"workers": 2}}),
            config_hash="h",
            model_dir=str(tiny_model_dir),
            run_dir=str(tmp_path),
            redis=RedisAccess("nonsense://127.0.0.1"),
            generator_ids=(),
        )
    )
    job.start()
    assert job.wait(500), "rank 1 still waits for rank 0"
    assert job.failure is not None
    assert job.failure.permanent
    assert job.failure.cause.startswith("redis.url = 'nonsense://127.0.0.1' is not usable")
