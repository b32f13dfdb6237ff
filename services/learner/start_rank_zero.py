"""Starts rank 0 of a learner incarnation: fences earlier ones off, finds its checkpoint and opens every part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.learner.checkpoint_commits import CheckpointCommits
from services.learner.collector import Collector
from services.learner.heartbeat import Heartbeat
from services.learner.rank_zero import RankZero
from services.learner.recorder import Recorder
from services.learner.restored import find_checkpoint
from services.learner.rollout_sample import RolloutSample
from services.learner.run_requests import RunRequests
from services.learner.spec import LearnerSpec
from services.learner.step_control import StepControl
from services.learner.target_in_force import TargetInForce
from services.learner.unacked_budget import UnackedBudget
from services.records.ledger import Began, Ledger, applied_file
from services.replay.actuators import ActuatorPublisher
from services.replay.consumer import ReplayConsumer
from services.run.state import update_status
from services.weights.broadcast import broadcast_of
from services.weights.publisher import WeightPublisher
from trainer.starting_model.find import vocabulary_size


def start_rank_zero(spec: LearnerSpec, check_writer: Callable[[], None] = lambda: None) -> RankZero:
    """Begin a learner incarnation that continues from the newest checkpoint. Its epoch is also its lineage.

    Opening the queue comes first, because it fences off every earlier incarnation: the checkpoint that is found next
    cannot be replaced by a suspended learner that resumes. Ledger, status, entropy target and actuators are written
    before anything is read from the queue.

    check_writer: raises the error of a checkpoint that failed. Raises ScopeError when every checkpoint is damaged,
    when Redis has lost the run's queue, and when a target of `auto` is out of range.
    """
    config, redis = spec.config, spec.redis.sync()
    consumer = ReplayConsumer(
        redis,
        spec.run_id,
        max_deliveries=config.pipeline.max_deliveries,
        unacked_bytes=config.pipeline.unacked_bytes,
    )
    epoch = consumer.open()
    store = spec.checkpoints
    store.sweep()
    checkpoint = find_checkpoint(store, epoch)
    restored = None if checkpoint is None else checkpoint.state
    first_step = 0 if restored is None else restored.step

    ledger = Ledger(applied_file(Path(spec.run_dir), epoch))
    ledger.append(Began(epoch, first_step))
    update_status(redis, spec.run_id, step=first_step, epoch=epoch)

    starting_entropy = None if restored is None else restored.starting_entropy
    target = TargetInForce(redis, spec.run_id, config, epoch, starting_entropy)
    publisher = ActuatorPublisher(redis, spec.run_id, epoch)
    control = StepControl(config, target, publisher, restored)
    control.publish(first_step)

    collector = Collector(consumer, config, spec.run_id, first_step, vocabulary_size(spec.model_dir))
    budget = UnackedBudget(consumer, config.pipeline.unacked_bytes, restored)
    commits = CheckpointCommits(config.checkpoint, store, spec.mirror, consumer, ledger, budget, restored)
    collector.start(commits.consumed)

    weights = WeightPublisher(
        spec.run_id,
        spec.generator_ids,
        timeout_seconds=config.weights.timeout_seconds,
        start_seconds=config.generators.start_timeout_seconds,
        broadcast=broadcast_of(config),
    )
    recorder = Recorder(spec, redis, consumer, epoch, first_step)
    samples = RolloutSample(spec, redis, epoch) if config.rollout_samples.per_step else None
    return RankZero(
        spec,
        redis=redis,
        consumer=consumer,
        store=store,
        checkpoint=checkpoint,
        ledger=ledger,
        control=control,
        publisher=publisher,
        collector=collector,
        budget=budget,
        commits=commits,
        requests=RunRequests(redis, spec.run_id, epoch),
        weights=weights,
        recorder=recorder,
        samples=samples,
        heartbeat=Heartbeat(redis, spec.run_id, epoch),
        check_writer=check_writer,
    )
