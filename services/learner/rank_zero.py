"""What only rank 0 does: read the queue, apply entropy targets, decide actuators, publish, commit, record."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from services.learner.checkpoint_commits import Commits
from services.learner.collector import Collector, StepGroups
from services.learner.heartbeat import Heart
from services.learner.recorder import Recorder
from services.learner.rollout_sample import RolloutSample
from services.learner.scatter import StepOrder, order_of
from services.learner.spec import LearnerSpec
from services.learner.target_in_force import TargetInForce
from services.learner.unacked_budget import UnackedRoom
from services.records.ledger import Applied, Began, Ledger, applied_file
from services.replay.consumer import ReplayConsumer
from services.run.control import checkpoints_done, desired
from services.run.state import update_status
from services.weights.broadcast import broadcast_of
from services.weights.probe import Probe
from services.weights.publisher import WeightPublisher
from trainer.checkpoint.store import ENGINE_TAG, LearnerState, disk_full, queue_is_gone, read_state
from trainer.checkpoint.universal import to_universal
from trainer.entropy_control import Actuators, make_controller
from trainer.learner.learner import StepMetrics
from trainer.regularizers import make_strength_law
from trainer.rollouts.batch import RolloutBatch, shard_batches
from trainer.rollouts.curriculum import make_curriculum
from trainer.rollouts.trajectory import PolicyVersion
from trainer.starting_model.find import vocabulary_size
from trainer.tasks.mixture import Mixture

HOLD_SECONDS = 5.0
"""between two orders while the run is paused"""
HOLD_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Restored:
    """What a learner goes on from. folder: of the checkpoint, under which `ENGINE_TAG` is; None before the first."""

    step: int
    folder: Path | None
    universal: bool = False
    """a copy made for another number of ranks or another ZeRO stage, to be removed once every rank has read it"""


class RankZero:
    """State of one learner incarnation besides tensors. Its fencing epoch is also its lineage."""

    def __init__(self, spec: LearnerSpec, check_writer: Callable[[], None] = lambda: None) -> None:
        """Fence earlier incarnations off, then continue from the newest checkpoint.

        In this order: the checkpoint that is found is not replaced by a learner that thaws.
        check_writer: raises what the checkpoint in flight failed with.
        Raises ScopeError when every checkpoint is damaged, and when Redis has lost the run's queue.
        """
        self._spec = spec
        self._config = spec.config
        self._redis = spec.redis.sync()
        self._consumer = ReplayConsumer(
            self._redis,
            spec.run_id,
            max_deliveries=spec.config.pipeline.max_deliveries,
            unacked_bytes=spec.config.pipeline.unacked_bytes,
        )
        self._lineage = self._epoch = self._consumer.open()
        self._store = spec.checkpoints
        self._store.sweep()
        self.checkpoint = self._store.newest()
        restored = None if self.checkpoint is None else read_state(self.checkpoint)
        if restored is not None and restored.lineage >= self._epoch:
            raise queue_is_gone(restored, self._epoch)
        self._controller = make_controller(
            spec.config.entropy_control, max_staleness=spec.config.pipeline.max_staleness
        )
        self._strength_law = make_strength_law(spec.config.regularizer)
        self._ledger = Ledger(applied_file(Path(spec.run_dir), self._lineage))
        self._applying = Applied(self._lineage, 0, [])
        self._check_writer = check_writer
        self._asked_checkpoints = self._promised_checkpoints = 0
        self._phase: Literal["running", "paused"] = "running"
        self.first_step = restored.step if restored else 0
        self._ledger.append(Began(self._lineage, self.first_step))
        update_status(self._redis, spec.run_id, step=self.first_step, epoch=self._epoch)
        if restored is not None:
            self._controller.restore(restored.controller)
            self._strength_law.restore(restored.regularizer)
        self._curriculum = make_curriculum(spec.config)
        if self._curriculum is not None and restored is not None and restored.curriculum is not None:
            self._curriculum.restore(restored.curriculum, restored.step)
        self._base_rewards: list[tuple[int, float]] = []
        self._acting: Actuators = self._controller.actuators
        self._target = TargetInForce(
            self._redis,
            spec.run_id,
            spec.config,
            self._epoch,
            restored.starting_entropy if restored else None,
        )
        self._publish_actuators(self.first_step)
        self._collector = Collector(
            self._consumer, spec.config, spec.run_id, self.first_step, vocabulary_size(spec.model_dir)
        )
        self._room = UnackedRoom(self._consumer, spec.config.pipeline.unacked_bytes, restored)
        self._commits = Commits(
            spec.config.checkpoint,
            self._store,
            spec.mirror,
            self._consumer,
            self._ledger,
            self._room,
            restored,
        )
        self._collector.start(self._commits.consumed)
        self._weights = WeightPublisher(
            spec.run_id,
            spec.generator_ids,
            timeout_seconds=spec.config.weights.timeout_seconds,
            start_seconds=spec.config.generators.start_timeout_seconds,
            broadcast=broadcast_of(spec.config),
        )
        self._recorder = Recorder(spec, self._redis, self._consumer, self._lineage, self.first_step)
        wanted = spec.config.rollout_samples.per_step
        self._samples = RolloutSample(spec, self._redis, self._lineage) if wanted else None
        self._heart = Heart(self._redis, spec.run_id, self._epoch)

    def restored(self) -> Restored:
        """What every rank is to load. Raises ScopeError when the disk is too full for a copy."""
        if self.checkpoint is None:
            return Restored(0, None)
        state, learner = read_state(self.checkpoint), self._config.learner
        if (state.workers, state.zero_stage) == (learner.workers, learner.zero_stage):
            return Restored(state.step, self.checkpoint)
        folder = self._store.writing(state.step, self._lineage)
        try:
            to_universal(self.checkpoint / ENGINE_TAG, folder / ENGINE_TAG)
        except (OSError, RuntimeError) as error:
            raise disk_full(folder, error) or error from error
        return Restored(state.step, folder, universal=True)

    def next_order(self, step: int) -> tuple[StepOrder, list[RolloutBatch] | None]:
        """Wait for the groups of `step`; read the entropy target at this boundary. Another order when asked for one."""
        self._recorder.begin(step)
        asked = self._asked()
        if asked is None and self._room.wants_checkpoint(step):
            self._asked_checkpoints = 0
            asked = StepOrder("checkpoint")
        if asked is not None:
            return asked, None
        taken = self._collector.take(step, lambda: self._keep_waiting() and self._room.can_wait(step))
        self._recorder.batch_complete()
        if taken is None:
            return StepOrder("idle"), None
        self._target.begin(step)
        consumed = taken.consumed()
        self._commits.applied(consumed)
        self._applying = Applied(self._lineage, step, [group_id for _, group_id in consumed])
        if self._curriculum is not None:
            self._base_rewards = _base_rewards(taken)
        groups = [group for _, group in taken.groups.values()]
        shards = shard_batches(groups, self._config)
        if self._samples is not None:
            self._samples.keep(step, groups)
        self._recorder.batch(taken, _staleness(taken, step))
        order = order_of(
            shards[0],
            self._acting,
            strength=self._strength_law.strength,
            step=step,
            checkpoint_after=self._commits.due_after(step),
        )
        return order, shards

    def optimizer_bytes(self, by_rank: list[int]) -> None:
        """Leave in the run directory how ZeRO shares the optimizer's state out."""
        document = json.dumps({"optimizer_bytes_by_rank": by_rank})
        (Path(self._spec.run_dir) / "learner.json").write_text(document + "\n")

    def learned(self, metrics: StepMetrics, seconds: float) -> None:
        """Take a step's measurements and decide the actuators and the regularizer's strength of the next one."""
        self._consumer.take_up(())
        self._ledger.append(self._applying)
        acted, strength = self._acting, self._strength_law.strength
        if self._curriculum is not None:
            self._recorder.mixture(self._curriculum)
            self._curriculum.learned(self._applying.step, self._base_rewards)
        self._target.measured(metrics.entropy)
        # Without an entropy target (no control, or `auto` not measured yet) everything stays as it is: neutral.
        if self._target.value is not None:
            self._acting = self._controller.update(
                metrics.entropy, self._target.value, positives=metrics.positives
            )
            self._strength_law.update(metrics.entropy, self._target.value)
        reference = self._controller.state().get("reference")
        self._recorder.learned(metrics, seconds, self._target, reference, acted, self._acting, strength)

    def publish(self, step: int, weights: dict[str, Tensor], probe: Probe, started: float) -> None:
        """Publish policy version (lineage, `step`) and the newest actuators; generators load it while they work."""
        self._publish_actuators(step)
        version = PolicyVersion(self._lineage, step)
        size = self._weights.publish(version, weights, probe)
        self._consumer.publish_version(*version)
        self._recorder.published(size, time.perf_counter() - started)

    def open_checkpoint(self, step: int) -> Path:
        """Where the ranks write their parts of checkpoint `step`."""
        return self._store.writing(step, self._lineage)

    def begin_checkpoint(self, step: int) -> Callable[[], None]:
        """Take rank 0's part of the snapshot; returns the commit, for when every rank has written its part.

        `settle` must have been called since the commit before.
        """
        state = LearnerState(
            step=step,
            lineage=self._lineage,
            config_hash=self._spec.config_hash,
            workers=self._config.learner.workers,
            zero_stage=self._config.learner.zero_stage,
            controller=self._controller.state(),
            regularizer=self._strength_law.state(),
            curriculum=None if self._curriculum is None else self._curriculum.state(),
            entropy_target_generation=self._target.generation,
            starting_entropy=self._target.starting_entropy,
            consumed=self._commits.consumed,
        )
        return self._commits.begin(state)

    def settle(self) -> None:
        """Acknowledge behind the checkpoint in flight if it is there. Raises what it failed with."""
        self._check_writer()
        if self._commits.settle() and self._promised_checkpoints:
            checkpoints_done(self._redis, self._spec.run_id, self._promised_checkpoints)
            self._promised_checkpoints = 0

    def checkpoint_waited(self, seconds: float) -> None:
        """How long the learner waited for a checkpoint after the step."""
        self._recorder.checkpointed(seconds)

    def check(self) -> None:
        """Raise FencedError when a newer learner has taken over; before writing what Redis does not guard."""
        self._consumer.check()

    def finish_step(self) -> None:
        """Write the step record."""
        self._recorder.loads(self._weights.poll())
        self._recorder.finish()

    def close(self) -> None:
        """Wait for generators to hold the last version, then stop reading and close the sinks."""
        deadline = time.monotonic() + self._config.weights.timeout_seconds
        while not self._weights.settled() and time.monotonic() < deadline:
            self._weights.poll()
            time.sleep(0.05)
        self._weights.close()
        self._collector.close()
        self._recorder.close()
        self._ledger.close()
        self._heart.close()
        self._redis.close()

    def answer_checkpoint(self) -> None:
        """What was asked for is done with the checkpoint in flight, or now, where none is."""
        if self._commits.in_flight:
            self._promised_checkpoints += self._asked_checkpoints
        else:
            checkpoints_done(self._redis, self._spec.run_id, self._asked_checkpoints)
        self._asked_checkpoints = 0

    def _keep_waiting(self) -> bool:
        self.settle()
        self._recorder.loads(self._weights.poll())
        self._recorder.observe_generators()
        now = desired(self._redis, self._spec.run_id)
        return now.state == "run" and now.checkpoints <= self._promised_checkpoints

    def _asked(self) -> StepOrder | None:
        """What somebody asked for in place of the next step; while the run is paused, after a while of holding."""
        deadline = time.monotonic() + HOLD_SECONDS
        while True:
            self.settle()
            now = desired(self._redis, self._spec.run_id)
            if now.state == "stop":
                return StepOrder("stop")
            if now.checkpoints > self._promised_checkpoints:
                self._asked_checkpoints = now.checkpoints - self._promised_checkpoints
                return StepOrder("checkpoint")
            if now.state == "run":
                self._announce("running")
                return None
            self._announce("paused")
            if time.monotonic() > deadline:
                return StepOrder("idle")
            time.sleep(HOLD_POLL_SECONDS)

    def _announce(self, phase: Literal["running", "paused"]) -> None:
        """Write the phase where it is news, and the heartbeat of a run that holds."""
        if phase == "paused" or self._phase != phase:
            update_status(self._redis, self._spec.run_id, phase=phase, epoch=self._epoch)
        self._phase = phase

    def _publish_actuators(self, step: int) -> None:
        """What generators need besides weights for the steps that version `step` lets them work on."""
        if self._curriculum is not None:
            self._consumer.set_mixes(self._curriculum.mixes)
        self._consumer.set_actuators(
            self._acting.temperature, self._acting.alpha, step, self._target.generation
        )


def _staleness(taken: StepGroups, step: int) -> Counter[int]:
    """Rollouts by their age in learner steps."""
    return Counter(
        int(math.fabs(step - trajectory.oldest_step))
        for _, group in taken.groups.values()
        for trajectory in group.trajectories
    )


def _base_rewards(taken: StepGroups) -> list[tuple[int, float]]:
    """Part of the mixture and reward of each base rollout, in the order of ordinals and not of arrival."""
    return [
        (Mixture.part_of(group.problem_id), trajectory.reward)
        for (role, _), (_, group) in sorted(taken.groups.items(), key=lambda item: item[0])
        if role == "base"
        for trajectory in group.trajectories
    ]
