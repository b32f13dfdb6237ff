"""Why the learner ended, in one sentence, and whether a restart can help."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass

from ray.exceptions import RayActorError

from services.redis.fencing import FencedError
from trainer.errors import ScopeError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class LearnerFailure:
    """How one incarnation of the learner ended."""

    cause: str
    permanent: bool
    """whether the next incarnation would fail in the same way, or must not be started"""


def learner_failure(error: BaseException) -> LearnerFailure:
    """Find the cause in the error of a failed Ray Train job.

    When one rank ends, the others fail because they lose their connection to it: the most specific error is reported.
    """
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", None) or {}
    ends = [_end_of(rank, failure) for rank, failure in sorted(failures.items())] or [_end_of(None, error)]
    ends.sort(key=lambda end: end[0])
    return ends[0][1]


def _end_of(rank: int | None, error: BaseException) -> tuple[int, LearnerFailure]:
    """The rank of an error's specificity, 0 for the most specific, and the failure that it describes."""
    inner = _innermost(error)
    if isinstance(inner, RayActorError):
        return 1, LearnerFailure(
            "its process died" if rank is None else f"the process of rank {rank} died", False
        )
    permanent = _is_permanent(inner)
    return 0 if permanent else 2, LearnerFailure(_sentence(inner), permanent)


def _is_permanent(error: BaseException) -> bool:
    if isinstance(error, ScopeError | FencedError | FloatingPointError):
        return True
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    # Redis and torch report a full disk in the message only.
    return "No space left on device" in str(error)


def _innermost(error: BaseException) -> BaseException:
    """Unwrap the error of a worker, which Ray wraps in several layers."""
    while True:
        wrapped = (
            getattr(error, name, None)
            for name in ("_base_exc", "health_check_failure", "controller_failure", "cause", "__cause__")
        )
        inner = next((e for e in wrapped if isinstance(e, BaseException)), None)
        if inner is None or isinstance(error, ScopeError):
            return error
        error = inner


def _sentence(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    if isinstance(error, ScopeError):
        return " ".join(lines)
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}"
