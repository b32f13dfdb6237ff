"""Route of the Prometheus metrics: every run that the token may read, from Redis at each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, cast, get_args

from fastapi import APIRouter, Depends
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from redis import Redis
from starlette.responses import Response

from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient, visible_runs
from services.control_plane.http.strict_route import StrictRoute
from services.records.alarms import AlarmKind
from services.records.step_record import flatten, mismatch_kl_limit
from services.redis.query import fetch, server_time
from services.replay.stats import queue_stats
from services.run.heartbeats import generators
from services.run.phases import BY_LEARNER
from services.run.state import DamagedDocument, documents_read
from trainer.roles import Role

router = APIRouter(route_class=StrictRoute, tags=["health"], responses=problems.RESPONSES)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format."}},
)
def prometheus(redis: RedisClient, visible: Annotated[list[str], Depends(visible_runs)]) -> Response:
    """Gauges `scope_<name>{run, key}`: the newest step record, progress, generators, the queue, Redis."""
    return Response(generate_latest(_Runs(redis, visible)), media_type=CONTENT_TYPE_LATEST)


class _Runs:
    """A collector in the form of a registry, for `generate_latest`."""

    def __init__(self, redis: Redis, run_ids: list[str]) -> None:
        self._redis, self._run_ids = redis, run_ids

    def collect(self) -> Iterator[Metric]:
        """Every metric family, once."""
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
            config = spec.config
            queue = queue_stats(self._redis, run_id)
            put("queue_groups", queue.unread, run_id, "unread")
            put("queue_groups", queue.pending, run_id, "pending")
            put("queue_groups", queue.dead_letters, run_id, "dead_letters")
            put("queue_capacity_groups", config["pipeline"]["queue_capacity"], run_id)
            put("staleness_limit_steps", config["pipeline"]["max_staleness"], run_id)
            put("mismatch_kl_limit", mismatch_kl_limit(config["pipeline"]["max_staleness"]), run_id)
            for role in ("base",) if config["entropy_control"]["kind"] == "none" else get_args(Role):
                put("generators_configured", config["generators"][role], run_id, role)
            if status.phase in BY_LEARNER:
                for name, beat in generators(self._redis, run_id).items():
                    if "step" in beat:
                        put("generator_lag_steps", max(0, status.step - beat["step"]), run_id, name)
                    put("generator_heartbeat_age_seconds", max(0.0, now - beat["at"]), run_id, name)
            if staleness := (status.record or {}).get("staleness"):
                put("staleness_max_steps", max(map(int, staleness)), run_id)
            for name, value in flatten(status.record or {}).items():
                field, _, key = name.partition("/")
                put(field, value, run_id, key)
            if status.record is not None:
                raised = status.record.get("alarm_kinds", [])
                for kind in get_args(AlarmKind):
                    put("alarm", float(kind in raised), run_id, kind)
        yield from families.values()
        memory = cast("dict[str, int]", self._redis.info("memory"))
        family = GaugeMetricFamily(
            "scope_redis_memory_bytes", "memory of the Redis server: used, and its limit", labels=["key"]
        )
        for key, name in (("used", "used_memory"), ("limit", "maxmemory")):
            family.add_metric([key], memory[name])
        yield family


_HELP = {
    "run_unreadable": "1 where the run's documents in Redis are damaged",
    "run_phase": "1 for the run's current phase",
    "run_steps_done": "learner steps done",
    "run_steps_configured": "learner steps configured",
    "run_heartbeat_age_seconds": "seconds since the last heartbeat of the driver or the learner",
    "queue_groups": "groups of the replay queue by state",
    "queue_capacity_groups": "unread groups at which producers wait",
    "staleness_limit_steps": "largest staleness allowed, in learner steps",
    "staleness_max_steps": "largest staleness of a rollout in the newest step, in learner steps",
    "mismatch_kl_limit": "mismatch KL above which a step record carries an alarm, nats per token",
    "alarm": "1 where the newest step record has an alarm of this kind",
    "generators_configured": "generators configured, by role",
    "generator_lag_steps": "learner steps by which a generator's weights are behind the learner's",
    "generator_heartbeat_age_seconds": "seconds since a generator's last heartbeat",
    "entropy": "policy entropy, nats per token",
    "entropy_target": "entropy target in force, nats per token",
}
