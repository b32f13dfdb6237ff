"""Names of every Redis key of a run. All share the hash tag `{run_id}`: a run lives in one cluster slot."""

from __future__ import annotations

from dataclasses import dataclass

RUN_INDEX = "scope:runs"
"""Set of run ids known to this Redis."""

SERVICE_TOKENS = "scope:tokens"
"""Hash like a run's `tokens`: bearer tokens that hold for every run of this Redis."""

SERVICE_AUDIT = "scope:audit"
"""Stream like a run's `audit`: what concerns every run of this Redis."""


def rate_key(digest: str, kind: str) -> str:
    """Integer that expires: when the next request of a kind by the token of that SHA-256 is due, microseconds."""
    return f"scope:rate:{digest}:{kind}"


CONSUMER_GROUP = "learner"
CONSUMER_NAME = "rank-0"


@dataclass(frozen=True)
class RunKeys:
    """Keys of one run: `scope:{run_id}:<name>`."""

    run_id: str

    def _key(self, name: str) -> str:
        return f"scope:{{{self.run_id}}}:{name}"

    @property
    def trajectories(self) -> str:
        """Stream of encoded groups, read by the consumer group `learner`."""
        return self._key("trajectories")

    @property
    def dead_letters(self) -> str:
        """Stream of entries that will never be used, each with its reason."""
        return self._key("dead-letters")

    @property
    def counters(self) -> str:
        """Hash of monotone counters; `services.replay.stats.QueueStats` says what each counts."""
        return self._key("counters")

    @property
    def fence(self) -> str:
        """Integer: the epoch of the learner incarnation that may write."""
        return self._key("fence")

    @property
    def actuators(self) -> str:
        """Hash: temperature, alpha, step, entropy_target_generation — the actuators of rollouts that begin."""
        return self._key("actuators")

    @property
    def curriculum(self) -> str:
        """Hash: learner step → JSON of its mix, `trainer.rollouts.curriculum.StepMix`; the newest steps only."""
        return self._key("curriculum")

    @property
    def published(self) -> str:
        """Hash: lineage, step — the newest published policy version."""
        return self._key("published")

    @property
    def entropy_target(self) -> str:
        """Hash: generation, source, target, updated_by, updated_at — the desired entropy target; starting_entropy."""
        return self._key("entropy-target")

    @property
    def entropy_target_applied(self) -> str:
        """Hash: generation, step, at — the generation in force and the learner step from which it holds; target and
        target_step — the value in force at the newest step."""
        return self._key("entropy-target-applied")

    @property
    def entropy_target_history(self) -> str:
        """Stream: every entropy target change and every application of one."""
        return self._key("entropy-target-history")

    @property
    def entropy_target_steps(self) -> str:
        """Hash: entropy target generation → the learner step from which it holds."""
        return self._key("entropy-target-steps")

    @property
    def audit(self) -> str:
        """Stream: every requested change, with the caller, its address, and the values before and after."""
        return self._key("audit")

    @property
    def spec(self) -> str:
        """JSON document: what the run is (configuration, hash, start time); written by the driver."""
        return self._key("spec")

    @property
    def status(self) -> str:
        """Hash: phase and since when, step, of, record and newest evaluation (JSON), heartbeat, error."""
        return self._key("status")

    @property
    def records(self) -> str:
        """Hash: step → JSON step record, of the surviving lineage."""
        return self._key("records")

    @property
    def evaluations(self) -> str:
        """Hash: learner steps done → JSON of held-out pass@k."""
        return self._key("evaluations")

    @property
    def held_out(self) -> str:
        """Hash: id, step, problems, next — the evaluation during training that is open, if one is."""
        return self._key("held-out")

    @property
    def held_out_count(self) -> str:
        """Integer: evaluations opened, so that each has an id of its own."""
        return self._key("held-out-count")

    @property
    def held_out_leases(self) -> str:
        """Sorted set: held-out problem that a generator works on → expiry, seconds."""
        return self._key("held-out-leases")

    @property
    def held_out_results(self) -> str:
        """Hash: held-out problem of the open evaluation → JSON of its result."""
        return self._key("held-out-results")

    @property
    def events(self) -> str:
        """Stream, its newest entries: a step was recorded, the run's phase changed."""
        return self._key("events")

    @property
    def rollouts(self) -> str:
        """Stream, its newest entries: sampled rollouts as JSON, where `rollout_samples` keeps some."""
        return self._key("rollouts")

    @property
    def control(self) -> str:
        """String: the desired state, `run`, `pause` or `stop`."""
        return self._key("control")

    @property
    def checkpoints(self) -> str:
        """Hash: requested, done — counts of the checkpoints requested of the run."""
        return self._key("checkpoints")

    @property
    def generators(self) -> str:
        """Hash: generator id → JSON heartbeat (role, state, version, counters, time)."""
        return self._key("generators")

    @property
    def tokens(self) -> str:
        """Hash: SHA-256 of a bearer token → JSON `services.access.tokens.TokenRecord`."""
        return self._key("tokens")

    def idempotency(self, name: str) -> str:
        """Hash: the record of one idempotency key; expires. See `services.redis.idempotency`."""
        return self._key(f"idempotency:{name}")

    def cursor(self, role: str) -> str:
        """Integer: the next ordinal of a role's data cursor; never rewound."""
        return self._key(f"cursor:{role}")

    def leases(self, role: str) -> str:
        """Sorted set: ordinal of a leased group → expiry, seconds."""
        return self._key(f"leases:{role}")

    def lease_owners(self, role: str) -> str:
        """Hash: ordinal of a leased group → producer id."""
        return self._key(f"lease-owners:{role}")

    def seen(self, role: str) -> str:
        """Bitmap over ordinals: groups of attempt 0 that entered the stream. Outlives the entries."""
        return self._key(f"seen:{role}")

    def seen_attempts(self, role: str) -> str:
        """Set of `ordinal:attempt`: requeued groups (attempt 1 and up) that entered the stream."""
        return self._key(f"seen-attempts:{role}")

    @property
    def reading(self) -> str:
        """Set of stream ids: the entries that the learner's reader is decoding and checking."""
        return self._key("reading")

    @property
    def learning(self) -> str:
        """Set of stream ids: the groups of the step that the learner computes."""
        return self._key("learning")

    @property
    def lost(self) -> str:
        """Set of `role:ordinal`: groups dead-lettered and not requeued; no learner step gets them."""
        return self._key("lost")

    @property
    def dead_letter_outcomes(self) -> str:
        """Stream: every dead letter that was requeued or purged, with the reason."""
        return self._key("dead-letter-outcomes")
