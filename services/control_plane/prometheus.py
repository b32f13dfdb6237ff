"""Route of the metrics for Prometheus: every run that the token sees, read from Redis at each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from redis import Redis
from starlette.responses import Response

from services.control_plane import problems
from services.control_plane.auth import State, visible_runs
from services.control_plane.strict_route import StrictRoute
from services.metrics import flatten
from services.reads import fetch
from services.replay.stats import queue_stats
from services.run_state import DamagedDocument, documents_read, server_time

router = APIRouter(route_class=StrictRoute, tags=["health"], responses=problems.RESPONSES)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format."}},
)
def prometheus(redis: State, visible: Annotated[list[str], Depends(visible_runs)]) -> Response:
    """Gauges of the newest step record (`scope_<field>`), of progress, and of the queue; labels run, key and phase."""
    return Response(generate_latest(_Runs(redis, visible)), media_type=CONTENT_TYPE_LATEST)


class _Runs:
    """What `generate_latest` takes for a registry."""

    def __init__(self, redis: Redis, run_ids: list[str]) -> None:
        self._redis, self._run_ids = redis, run_ids

    def collect(self) -> Iterator[Metric]:
        """Every family, each once."""
        families: dict[str, GaugeMetricFamily] = {}

        def put(name: str, value: float, run: str, key: str = "") -> None:
            if name not in families:
                families[name] = GaugeMetricFamily(
                    f"scope_{name}", _HELP.get(name, name), labels=["run", "key"]
                )
            families[name].add_metric([run, key], value)

        now = server_time(self._redis)
        for run_id in self._run_ids:
            try:
                spec, status = fetch(self._redis, documents_read(run_id))
            except DamagedDocument:
                put("run_unreadable", 1, run_id)
                continue
            if spec is None or status is None:
                continue
            put("run_phase", 1, run_id, status.phase)
            put("run_steps_done", status.step, run_id)
            put("run_steps_configured", status.of, run_id)
            put("run_heartbeat_age_seconds", max(0.0, now - status.heartbeat), run_id)
            queue = queue_stats(self._redis, run_id)
            put("queue_groups", queue.unread, run_id, "unread")
            put("queue_groups", queue.pending, run_id, "pending")
            put("queue_groups", queue.dead_letters, run_id, "dead_letters")
            put("queue_capacity_groups", spec.config["pipeline"]["queue_capacity"], run_id)
            for name, value in flatten(status.record or {}).items():
                field, _, key = name.partition("/")
                put(field, value, run_id, key)
        yield from families.values()


_HELP = {
    "run_unreadable": "1 where the run's documents in Redis are damaged",
    "run_phase": "1 for the phase that the run is in",
    "run_steps_done": "learner steps done",
    "run_steps_configured": "learner steps to do",
    "run_heartbeat_age_seconds": "since the driver or the learner last wrote",
    "queue_groups": "groups of the replay queue by state",
    "queue_capacity_groups": "unread groups before producers wait",
    "entropy": "policy entropy, nats per token",
    "set_point": "entropy set-point in force, nats per token",
}
