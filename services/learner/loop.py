"""The learner's loop, run by every rank under Ray Train.

    rank 0's order → scatter of the batch → learner step → control → weight publication → checkpoint, when due → record

`RankZero` does everything that only one process may do; every method here is collective. Checkpoints are written in
the background from a snapshot.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist

from services.host.priority import lower_priority
from services.learner.checkpoint_writer import CheckpointWriter, exchange_over_gloo
from services.learner.ranks import join_ranks
from services.learner.restored import Restored
from services.learner.scatter import StepOrder, broadcast_order, scatter_batch
from services.learner.spec import LearnerSpec
from services.learner.start_rank_zero import start_rank_zero
from services.weights.probe import Probe
from trainer.checkpoint.store import ENGINE_TAG, disk_full
from trainer.learner.learner import Learner
from trainer.rollouts.batch import RolloutBatch

LINGER_SECONDS = 60.0
"""How long a learner that failed waits for the checkpoint in flight."""


def learner_loop(settings: dict[str, Any]) -> None:
    """Entry point of every Ray Train worker; `settings["spec"]` is a `LearnerSpec`."""
    lower_priority()
    spec: LearnerSpec = settings["spec"]
    backend = "nccl" if spec.config.learner.gpus_per_worker else "gloo"
    join_ranks(backend, spec.config.learner.collective_timeout_seconds)
    LearnerLoop(spec).run()


class LearnerLoop:
    """One rank of the learner."""

    def __init__(self, spec: LearnerSpec) -> None:
        self._spec = spec
        self._learner = Learner(spec.config, Path(spec.model_dir))
        self._device = self._learner.device
        self._writer = CheckpointWriter(exchange_over_gloo(spec.config.learner.collective_timeout_seconds))
        self._rank_zero = start_rank_zero(spec, self._writer.check) if dist.get_rank() == 0 else None
        self._step, self._saved_step = self._restore()
        self._optimizer_measured = False

    def run(self) -> None:
        """Learn until the last step or a stop request; then write the last checkpoint and the model."""
        try:
            self._learn()
        except BaseException:
            # A checkpoint that every rank has written its part of is worth the wait, whatever failed.
            self._writer.linger(LINGER_SECONDS)
            raise
        if self._rank_zero is not None:
            self._rank_zero.saving()
        if self._saved_step != self._step:
            self._checkpoint()
        self._await_checkpoint()
        self._export()
        if self._rank_zero is not None:
            self._rank_zero.end()

    def _learn(self) -> None:
        self._publish()
        while self._step < self._spec.config.steps:
            self._writer.check()
            order, shards = (
                (None, None) if self._rank_zero is None else self._rank_zero.next_order(self._step)
            )
            order = broadcast_order(order, self._device)
            match order.kind:
                case "stop":
                    break
                case "checkpoint":
                    self._extra_checkpoint()
                case "step":
                    self._one_step(order, shards)

    def _restore(self) -> tuple[int, int]:
        """Load what rank 0 has found; returns the step to continue from, and that of the newest checkpoint or -1."""
        box: list[Restored] = [self._rank_zero.restored() if self._rank_zero else Restored(0, None)]
        dist.broadcast_object_list(box, src=0, device=self._device)
        restored = box[0]
        if restored.folder is None:
            return restored.step, -1
        self._learner.load(restored.folder, ENGINE_TAG, universal=restored.universal)
        dist.barrier()
        if self._rank_zero is not None and restored.universal:
            shutil.rmtree(restored.folder)
        return restored.step, restored.step

    def _measure_optimizer(self) -> None:
        """Measure once, after the first update, when the optimizer has its state."""
        by_rank: list[int] = [0] * self._learner.world_size
        dist.all_gather_object(by_rank, self._learner.optimizer_bytes())
        self._optimizer_measured = True
        if self._rank_zero is not None:
            self._rank_zero.optimizer_bytes(by_rank)

    def _one_step(self, order: StepOrder, shards: list[RolloutBatch] | None) -> None:
        batch = scatter_batch(order, shards, self._device)
        started = time.perf_counter()
        metrics = self._learner.step(batch, order.actuators, strength=order.strength, step=order.step)
        if self._rank_zero is not None:
            self._rank_zero.learned(metrics, time.perf_counter() - started)
        self._step += 1
        self._publish()
        if not self._optimizer_measured:
            self._measure_optimizer()
        if order.checkpoint_after:
            self._checkpoint()
        if self._rank_zero is not None:
            self._rank_zero.finish_step()

    def _extra_checkpoint(self) -> None:
        """A checkpoint that was requested, or needed early; none is written where this step has one."""
        if self._saved_step != self._step:
            self._checkpoint()
        if self._rank_zero is not None:
            self._rank_zero.answer_checkpoint()

    def _publish(self) -> None:
        started = time.perf_counter()
        probe = Probe(*self._learner.probe_logprobs())
        weights = self._learner.gather_weights()
        if self._rank_zero is not None and weights is not None:
            self._rank_zero.publish(self._step, weights, probe, started)

    def _checkpoint(self) -> None:
        started = time.perf_counter()
        self._await_checkpoint()
        box: list[str] = [str(self._rank_zero.open_checkpoint(self._step)) if self._rank_zero else ""]
        dist.broadcast_object_list(box, src=0, device=self._device)
        folder = Path(box[0])
        try:
            snapshot = self._learner.snapshot(folder, ENGINE_TAG)
        except (OSError, RuntimeError) as error:
            if (full := disk_full(folder, error)) is not None:
                raise full from error
            raise
        commit = None if self._rank_zero is None else self._rank_zero.begin_checkpoint(self._step)
        self._writer.begin(folder, snapshot.write, commit)
        self._saved_step = self._step
        if not self._spec.config.checkpoint.asynchronous:
            self._await_checkpoint()
            # Until rank 0 has committed, so that the next update finds every rank done.
            dist.barrier()
        if self._rank_zero is not None:
            self._rank_zero.checkpoint_waited(time.perf_counter() - started)

    def _await_checkpoint(self) -> None:
        self._writer.wait()
        if self._rank_zero is not None:
            self._rank_zero.settle()

    def _export(self) -> None:
        weights, adapter = self._learner.gather_weights(), self._learner.gather_adapter()
        if self._rank_zero is not None and weights is not None:
            self._rank_zero.check()
            model, start = Path(self._spec.run_dir) / "model", Path(self._spec.model_dir)
            self._learner.export(model, weights, start, adapter)
