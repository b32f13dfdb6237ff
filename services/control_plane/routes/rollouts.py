"""Route of a run's sampled rollouts: responses of the policy with rewards and log-probabilities."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from services.access.tokens import Principal
from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient, allowed
from services.control_plane.http.problems import Problem
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.schemas.rollouts import RolloutPage, RolloutView
from services.records.sampled_rollouts import LONGEST_TEXT, RolloutFilter, read_rollouts
from services.redis.streams import STREAM_ID
from services.run.state import read_spec
from trainer.roles import Role

MOST_LISTED = 100

router = APIRouter(
    route_class=StrictRoute,
    prefix="/v1/runs/{run_id}/rollouts",
    tags=["rollouts"],
    responses=problems.RESPONSES,
)


@router.get("")
def get_rollouts(
    run_id: str,
    redis: RedisClient,
    _: Annotated[Principal, Depends(allowed("viewer"))],
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 20,
    cursor: Annotated[str | None, Query(pattern=STREAM_ID, description="`next` of the last page")] = None,
    step: Annotated[int | None, Query(ge=0, le=1 << 53)] = None,
    role: Annotated[Role | None, Query()] = None,
    correct: Annotated[bool | None, Query(description="whether the answer is right")] = None,
    reward: Annotated[float | None, Query(ge=0, le=1, description="smallest reward")] = None,
    contains: Annotated[
        str | None,
        Query(max_length=LONGEST_TEXT, description="text in the prompt or the response, case-insensitive"),
    ] = None,
) -> RolloutPage:
    """Rollouts sampled under `rollout_samples`, newest first. A page may be short or empty although `next` is set."""
    if read_spec(redis, run_id) is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")
    wanted = RolloutFilter(step=step, role=role, correct=correct, reward=reward, contains=contains)
    found, following = read_rollouts(redis, run_id, wanted, limit, cursor)
    shown = [RolloutView(id=entry_id, **rollout.model_dump()) for entry_id, rollout in found]
    return RolloutPage(rollouts=shown, next=following)
