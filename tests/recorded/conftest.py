"""A run directory to read, and a command line with a home of its own."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from services.redis.access import RedisAccess
from tests.support.runs.recorded import make_run_directory
from tests.support.runs.shell import Shell


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, redis_access: RedisAccess) -> Path:
    """The directory of a run that has finished. Do not change it."""
    path = tmp_path_factory.mktemp("recorded") / f"run-{uuid.uuid4().hex[:8]}"
    with redis_access.sync() as redis:
        make_run_directory(path, redis, redis_access)
    return path


@pytest.fixture
def directory(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run's directory, which the test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "quickstart"))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A command line whose working directory has the run `quickstart` under `runs/`, if `directory` made it."""
    return Shell(tmp_path)
