"""A run in Redis as the driver registers it, before any step."""

from redis import Redis

from services.entropy_target.store import initialise_entropy_target
from services.run.state import RunSpec, initialise_run


def register_run(redis: Redis, run_id: str, spec: RunSpec) -> None:
    """Write what the driver writes when a run starts or resumes."""
    initialise_entropy_target(redis, run_id)
    initialise_run(redis, run_id, spec)
