"""The data contract between generators and the learner: groups of trajectories, and their encoding.

A *group* is every rollout of one prompt by one role; it enters the replay queue whole. The encoding is msgpack
(msgspec) with raw little-endian buffers for arrays, never pickle. Decoding checks schema version, size, types, values
and the lengths of arrays against each other. Counts are limited, so that a decoded entry takes little more memory than
its bytes: the declared lengths of lists and maps are checked before these are built.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainer.roles import MOST_COMPONENTS, MOST_ROLLOUTS, Role
from trainer.rollouts.rewards import FULL_REWARD

SCHEMA_VERSION = 2
MOST_SPANS = 128
"""version spans of one rollout; `pipeline.max_staleness` is at most 64, and a rollout over more steps is not used"""
LONGEST_TEXT = 4096
"""characters of the longest text in an entry"""

FinishReason = Literal["stop", "length"]


class TrajectoryError(ValueError):
    """An entry is not a valid group; the message says why."""


class PolicyVersion(NamedTuple):
    """A published policy: the weights after `step` learner steps of `lineage`, one learner incarnation's epoch."""

    lineage: int
    step: int


class VersionSpan(msgspec.Struct, frozen=True, array_like=True):
    """Response tokens from `first_token` on were sampled by policy version (`lineage`, `step`)."""

    first_token: int
    lineage: int
    step: int


class Trajectory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rollout. Arrays are little-endian buffers; `behaviour_logprobs` are nats at `logprob_temperature`."""

    group_index: int
    response_tokens: bytes
    """int32[response length], the end-of-sequence token included where it was sampled"""
    behaviour_logprobs: bytes
    """float32[response length], nats"""
    loss_mask: bytes
    """uint8[response length], 1 where the token enters the loss"""
    logprob_temperature: float
    """base: the sampling temperature; adaptive: 1"""
    versions: Annotated[list[VersionSpan], msgspec.Meta(max_length=MOST_SPANS)]
    reward: float
    reward_components: Annotated[dict[str, float], msgspec.Meta(max_length=MOST_COMPONENTS)]
    verdict: str
    finish_reason: FinishReason
    scored: bool = True
    """False where the verifier gave no score: `reward` is 0, and the rollout counts in no statistic and no loss"""
    correct: bool | None = None
    """whether the response is a success by `task.positive_from`; None in older entries, where a reward of 1 is"""

    @property
    def succeeded(self) -> bool:
        """Whether the response is a success, whatever the shaping of its reward."""
        return self.scored and (self.reward >= FULL_REWARD if self.correct is None else self.correct)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Response token ids, int32[T], a read-only view."""
        return np.frombuffer(self.response_tokens, dtype="<i4")

    @property
    def logprobs(self) -> NDArray[np.float32]:
        """Behaviour log-probabilities, float32[T], nats, a read-only view."""
        return np.frombuffer(self.behaviour_logprobs, dtype="<f4")

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Loss mask, uint8[T], a read-only view."""
        return np.frombuffer(self.loss_mask, dtype="u1")

    @property
    def oldest_step(self) -> int:
        """The learner step of the oldest policy version that sampled a token."""
        return min(span.step for span in self.versions)


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rollouts of one prompt by one role. `group_id` is `role:ordinal:attempt`, unique within a run."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    task: str
    problem_id: str
    role: Role
    ordinal: int
    """position in the role's data cursor; the learner step that uses it is ordinal // prompts_per_step"""
    attempt: int = 0
    sampling_temperature: float
    entropy_target_generation: int
    prompt_tokens: bytes
    """int32[prompt length]"""
    producer_id: str
    producer_sequence: int
    started_at: float
    finished_at: float
    """seconds since the epoch"""
    trajectories: Annotated[list[Trajectory], msgspec.Meta(max_length=MOST_ROLLOUTS)]

    @property
    def group_id(self) -> str:
        """`role:ordinal:attempt`, the key of exactly-once admission."""
        return f"{self.role}:{self.ordinal}:{self.attempt}"

    @property
    def prompt(self) -> NDArray[np.int32]:
        """Prompt token ids, int32[P], a read-only view."""
        return np.frombuffer(self.prompt_tokens, dtype="<i4")

    @property
    def oldest_step(self) -> int:
        """The learner step of the oldest policy version in the group."""
        return min(t.oldest_step for t in self.trajectories)


class _Header(msgspec.Struct):
    """Decoded first, so that an entry of another schema version is refused with that reason."""

    schema_version: int


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(_Header)
_decoder = msgspec.msgpack.Decoder(Group)


def encode_group(group: Group, *, size_cap: int) -> bytes:
    """Encode `group`; raises `TrajectoryError` when it is invalid or larger than `size_cap` bytes."""
    _check_version(group.schema_version)
    _check(group)
    data = _encoder.encode(group)
    if len(data) > size_cap:
        raise TrajectoryError(
            f"group {group.group_id} takes {len(data):,} bytes, above the cap of {size_cap:,}"
        )
    return data


def decode_group(data: bytes, *, size_cap: int) -> Group:
    """Decode and check one entry; raises `TrajectoryError` for anything that is not a valid group."""
    if len(data) > size_cap:
        raise TrajectoryError(f"entry of {len(data):,} bytes is above the cap of {size_cap:,}")
    try:
        _check_version(_header_decoder.decode(data).schema_version)
        group = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrajectoryError(f"not a group: {error}") from error
    _check(group)
    return group


def _check_version(version: int) -> None:
    if version != SCHEMA_VERSION:
        raise TrajectoryError(f"schema version {version}, this software reads {SCHEMA_VERSION}")


def _check(group: Group) -> None:
    if not group.trajectories:
        raise TrajectoryError("a group needs at least one trajectory")
    if len(group.trajectories) > MOST_ROLLOUTS:
        raise TrajectoryError(
            f"{len(group.trajectories):,} trajectories, at most {MOST_ROLLOUTS:,} are allowed"
        )
    if not group.prompt_tokens or len(group.prompt_tokens) % 4:
        raise TrajectoryError(
            f"prompt_tokens has {len(group.prompt_tokens)} bytes, not a positive multiple of 4"
        )
    if group.prompt.min() < 0:
        raise TrajectoryError("prompt_tokens holds a negative token id")
    if min(group.ordinal, group.attempt, group.entropy_target_generation, group.producer_sequence) < 0:
        raise TrajectoryError(
            "ordinal, attempt, entropy_target_generation and producer_sequence must be non-negative"
        )
    _check_temperature("sampling_temperature", group.sampling_temperature)
    if not (math.isfinite(group.started_at) and math.isfinite(group.finished_at)):
        raise TrajectoryError("started_at and finished_at must be finite")
    for text in (group.run_id, group.task, group.problem_id, group.producer_id):
        _check_text(text)
    for trajectory in group.trajectories:
        _check_trajectory(trajectory)
    _check_numbers(group.trajectories)


def _check_numbers(trajectories: list[Trajectory]) -> None:
    """Check all trajectories at once, because for short ones calling numpy takes most of the time."""
    if np.frombuffer(b"".join(t.response_tokens for t in trajectories), dtype="<i4").min() < 0:
        raise TrajectoryError("response_tokens holds a negative token id")
    logprobs = np.frombuffer(b"".join(t.behaviour_logprobs for t in trajectories), dtype="<f4")
    if not np.isfinite(logprobs).all() or logprobs.max() > 1e-3:
        raise TrajectoryError("behaviour_logprobs must be finite and not positive")
    if np.frombuffer(b"".join(t.loss_mask for t in trajectories), dtype="u1").max() > 1:
        raise TrajectoryError("loss_mask holds a value other than 0 and 1")


def _check_trajectory(trajectory: Trajectory) -> None:
    length = len(trajectory.loss_mask)
    if length == 0:
        raise TrajectoryError("a trajectory needs at least one response token")
    for name, size in (("response_tokens", 4), ("behaviour_logprobs", 4)):
        if len(getattr(trajectory, name)) != size * length:
            raise TrajectoryError(
                f"{name} has {len(getattr(trajectory, name))} bytes for {length} response tokens"
            )
    _check_temperature("logprob_temperature", trajectory.logprob_temperature)
    components = trajectory.reward_components
    if len(components) > MOST_COMPONENTS:
        raise TrajectoryError(f"{len(components):,} reward_components, at most {MOST_COMPONENTS} are allowed")
    if not all(math.isfinite(part) for part in (trajectory.reward, *components.values())):
        raise TrajectoryError("reward and reward_components must be finite")
    if not trajectory.scored and trajectory.reward:
        raise TrajectoryError("an unscored trajectory must have reward 0")
    for text in (trajectory.verdict, *components):
        _check_text(text)
    if trajectory.group_index < 0:
        raise TrajectoryError("group_index must be non-negative")
    _check_spans(trajectory.versions, length)


def _check_spans(spans: list[VersionSpan], length: int) -> None:
    if (
        not spans
        or spans[0].first_token != 0
        or any(a.first_token >= b.first_token for a, b in pairwise(spans))
    ):
        raise TrajectoryError("version spans must begin at token 0 and increase")
    if len(spans) > MOST_SPANS:
        raise TrajectoryError(f"{len(spans):,} version spans, at most {MOST_SPANS} are allowed")
    if spans[-1].first_token >= length:
        raise TrajectoryError(f"a version span begins at token {spans[-1].first_token} of {length}")
    if min(min(span.lineage, span.step) for span in spans) < 0:
        raise TrajectoryError("lineage and step of a version span must be non-negative")


def _check_temperature(name: str, temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise TrajectoryError(f"{name} must be positive and finite")


def _check_text(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise TrajectoryError(f"a text of {len(text):,} characters, at most {LONGEST_TEXT:,} are allowed")
