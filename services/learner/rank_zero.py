"""What only rank 0 does: order steps, apply the entropy target, publish, commit checkpoints, write records.

`services.learner.start_rank_zero` builds it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from torch import Tensor

from services.learner.checkpoint_commits import CheckpointCommits
from services.learner.collector import Collector, StepGroups
from services.learner.heartbeat import Heartbeat
from services.learner.recorder import Recorder
from services.learner.restored import FoundCheckpoint, Restored, loadable
from services.learner.rollout_sample import RolloutSample
from services.learner.run_requests import RunRequests
from services.learner.scatter import StepOrder, order_of
from services.learner.spec import LearnerSpec
from services.learner.step_control import StepControl
from services.learner.unacked_budget import UnackedBudget
from services.records.ledger import Applied, Ledger
from services.replay.actuators import ActuatorPublisher
from services.replay.consumer import ReplayConsumer
from services.weights.probe import Probe
from services.weights.publisher import WeightPublisher
from trainer.checkpoint.store import CheckpointStore, LearnerState
from trainer.files import write_atomically
from trainer.learner.step_metrics import StepMetrics
from trainer.rollouts.batch import RolloutBatch, shard_batches
from trainer.rollouts.trajectory import PolicyVersion


class RankZero:
    """State of one learner incarnation besides tensors, from parts that are open and belong to that incarnation."""

    def __init__(
        self,
        spec: LearnerSpec,
        *,
        redis: Redis,
        consumer: ReplayConsumer,
        store: CheckpointStore,
        checkpoint: FoundCheckpoint | None,
        ledger: Ledger,
        control: StepControl,
        publisher: ActuatorPublisher,
        collector: Collector,
        budget: UnackedBudget,
        commits: CheckpointCommits,
        requests: RunRequests,
        weights: WeightPublisher,
        recorder: Recorder,
        samples: RolloutSample | None,
        heartbeat: Heartbeat,
        check_writer: Callable[[], None],
    ) -> None:
        """checkpoint: the one to continue from; check_writer: raises the error of a checkpoint that failed."""
        self._spec, self._config = spec, spec.config
        self._redis, self._consumer, self._store, self._checkpoint = redis, consumer, store, checkpoint
        self._lineage = consumer.epoch
        self._ledger, self._control, self._publisher = ledger, control, publisher
        self._collector, self._budget, self._commits = collector, budget, commits
        self._requests, self._weights, self._heartbeat = requests, weights, heartbeat
        self._recorder, self._samples = recorder, samples
        self._check_writer = check_writer
        self._applying = Applied(self._lineage, 0, [])
        """the ledger's event of the step that is being computed"""

    @property
    def first_step(self) -> int:
        """The learner step that the incarnation begins with."""
        return 0 if self._checkpoint is None else self._checkpoint.state.step

    def restored(self) -> Restored:
        """What every rank loads. Raises ScopeError when the disk is too full for a converted copy."""
        return loadable(self._checkpoint, self._store, self._config.learner, self._lineage)

    def next_order(self, step: int) -> tuple[StepOrder, list[RolloutBatch] | None]:
        """Wait for the groups of `step` and read the entropy target; returns the order and one shard per rank.

        Returns another order, without shards, when a stop, pause or checkpoint is requested, or when
        `pipeline.unacked_bytes` needs a checkpoint.
        """
        self._recorder.begin(step)
        requested = self._requests.next(self.settle)
        if requested is None and self._budget.checkpoint_due(step):
            requested = "checkpoint"
        if requested is not None:
            return StepOrder(requested), None
        taken = self._collector.take(step, lambda: self._keep_waiting() and self._budget.can_wait(step))
        self._recorder.batch_complete()
        if taken is None:
            return StepOrder("idle"), None
        self._control.begin(step, taken)
        consumed = taken.consumed()
        self._commits.applied(consumed)
        self._applying = Applied(self._lineage, step, [group_id for _, group_id in consumed])
        groups = [group for _, group in taken.groups.values()]
        shards = shard_batches(groups, self._config)
        if self._samples is not None:
            self._samples.keep(step, groups)
        self._recorder.batch(taken, _staleness(taken, step))
        order = order_of(
            shards[0],
            self._control.actuators,
            strength=self._control.strength,
            step=step,
            checkpoint_after=self._commits.due_after(step),
        )
        return order, shards

    def optimizer_bytes(self, by_rank: list[int]) -> None:
        """Write to the run directory how ZeRO divides the optimizer's state."""
        document = json.dumps({"optimizer_bytes_by_rank": by_rank}) + "\n"
        write_atomically(Path(self._spec.run_dir) / "learner.json", document.encode())

    def learned(self, metrics: StepMetrics, seconds: float) -> None:
        """Record a step as done, and decide the actuators and the regularizer's strength of the next one."""
        self._consumer.mark_learning(())
        self._ledger.append(self._applying)
        control = self._control
        if control.curriculum is not None:
            self._recorder.mixture(control.curriculum)
        acted, strength = control.actuators, control.strength
        control.decide(self._applying.step, metrics)
        self._recorder.learned(
            metrics, seconds, control.target, control.reference, acted, control.actuators, strength
        )

    def publish(self, step: int, weights: dict[str, Tensor], probe: Probe, started: float) -> None:
        """Publish policy version (lineage, `step`) and the newest actuators; generators load it while they work.

        started: when the publication began, by `time.perf_counter`.
        """
        self._control.publish(step)
        version = PolicyVersion(self._lineage, step)
        size = self._weights.publish(version, weights, probe)
        self._publisher.publish_version(*version)
        self._recorder.published(size, time.perf_counter() - started)

    def open_checkpoint(self, step: int) -> Path:
        """The empty directory to which the ranks write their parts of checkpoint `step`."""
        return self._store.writing(step, self._lineage)

    def begin_checkpoint(self, step: int) -> Callable[[], None]:
        """Take rank 0's part of the snapshot; returns the commit, to be called when every rank has written its part.

        `settle` must have been called since the commit before.
        """
        state = LearnerState(
            step=step,
            lineage=self._lineage,
            config_hash=self._spec.config_hash,
            workers=self._config.learner.workers,
            zero_stage=self._config.learner.zero_stage,
            consumed=self._commits.consumed,
            **self._control.state(),
        )
        return self._commits.begin(state)

    def settle(self) -> None:
        """Acknowledge what the checkpoint in flight allows, if it is committed. Raises what it failed with."""
        self._check_writer()
        if self._commits.settle():
            self._requests.checkpoint_committed()

    def answer_checkpoint(self) -> None:
        """Answer the checkpoint order: its requests are done, or will be when the checkpoint in flight is committed."""
        self._requests.answer_checkpoint(in_flight=self._commits.in_flight)

    def checkpoint_waited(self, seconds: float) -> None:
        """Record how long the learner waited for a checkpoint after the step."""
        self._recorder.checkpointed(seconds)

    def check(self) -> None:
        """Raise FencedError when a newer learner has taken over: before a write that Redis does not guard."""
        self._consumer.check()

    def finish_step(self) -> None:
        """Write the step record."""
        self._recorder.loads(self._weights.poll())
        self._recorder.finish()

    def saving(self) -> None:
        """Announce that no further step begins: the last checkpoint and the model are written."""
        self._requests.announce_saving()

    def end(self) -> None:
        """Close every part, then announce that nothing is left to write. Raises FencedError if a newer learner exists.

        Before that wait until the generators have loaded the last version, unless the run was stopped: after the last
        step they evaluate it, after a stop they have nothing left to do.
        """
        deadline = time.monotonic() + self._config.weights.timeout_seconds
        while not (self._requests.stopping or self._weights.settled()) and time.monotonic() < deadline:
            self._weights.poll()
            time.sleep(0.05)
        self._weights.close()
        self._collector.close()
        self._recorder.close()
        self._ledger.close()
        self._heartbeat.close()
        try:
            self._requests.announce_learned()
        finally:
            self._redis.close()

    def _keep_waiting(self) -> bool:
        self.settle()
        self._recorder.loads(self._weights.poll())
        self._recorder.observe_generators()
        return not self._requests.pending()


def _staleness(taken: StepGroups, step: int) -> Counter[int]:
    """Number of rollouts by age in learner steps."""
    return Counter(
        abs(step - trajectory.oldest_step)
        for _, group in taken.groups.values()
        for trajectory in group.trajectories
    )
