"""A private single-node Ray cluster for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import ray

from services.access.ray_token import private_ray, require_loopback

START_TRIES = 4


@contextmanager
def local_ray(num_cpus: int, environment: dict[str, str] | None = None, **options: Any) -> Iterator[None]:
    """Run Ray on this machine inside the context. environment: set before Ray starts, so that its workers inherit it.

    The start is retried, as in a real run: on a busy machine Ray's fixed timeout of 30 seconds can be too short.
    """
    with (
        TemporaryDirectory() as folder,
        private_ray(Path(folder) / "token"),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        for tries in range(START_TRIES):
            try:
                ray.init("local", num_cpus=num_cpus, include_dashboard=False, log_to_driver=False, **options)
                require_loopback()
                break
            except Exception as error:
                ray.shutdown()
                if "timed out during startup" not in str(error) or tries == START_TRIES - 1:
                    raise
        yield
        ray.shutdown()
