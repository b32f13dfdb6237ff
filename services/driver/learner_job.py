"""One incarnation of the learner: a Ray Train job, run on a thread of its own."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from services.driver.learner_failure import LearnerFailure, learner_failure
from services.learner.spec import LearnerSpec
from trainer.config import LearnerConfig
from trainer.determinism import compute_environment


class LearnerJob:
    """Runs `TorchTrainer.fit` on a thread, because it blocks until the learner is done."""

    def __init__(self, spec: LearnerSpec) -> None:
        self._spec = spec
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fit, name="ray-train", daemon=True)

    def start(self) -> None:
        """Start the learner's workers."""
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; True when the learner has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def failure(self) -> LearnerFailure | None:
        """Why the learner ended; None while it runs and when it has finished."""
        return None if self._error is None else learner_failure(self._error)

    def _fit(self) -> None:
        import ray.train
        from ray.train.torch import TorchTrainer

        from services.learner.ranks import RankConfig

        learner = self._spec.config.learner
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        trainer = TorchTrainer(
            _learn,
            train_loop_config={"spec": self._spec},
            torch_config=RankConfig(),
            scaling_config=ray.train.ScalingConfig(
                num_workers=learner.workers,
                use_gpu=learner.gpus_per_worker > 0,
                resources_per_worker=worker_resources(learner),
            ),
            run_config=ray.train.RunConfig(
                name=self._spec.run_id,
                storage_path=str(Path(self._spec.run_dir) / "ray-train"),
                worker_runtime_env={
                    "env_vars": learner_environment(learner.threads, learner.gpus_per_worker)
                    | compute_environment(strict=self._spec.config.determinism.strict)
                },
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            self._error = error


def _learn(settings: dict[str, Any]) -> None:
    """Run in the worker. The import is here so that the driver does not import torch and DeepSpeed."""
    from services.learner.loop import learner_loop

    learner_loop(settings)


def learner_environment(threads: int, gpus: float) -> dict[str, str]:
    """Environment variables of DeepSpeed and torch for the learner's processes."""
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return environment if gpus else {**environment, "DS_ACCELERATOR": "cpu"}


def worker_resources(learner: LearnerConfig) -> dict[str, float]:
    """Ray resources of one learner worker, by name."""
    wanted = {"CPU": learner.cpus_per_worker, "GPU": learner.gpus_per_worker}
    if learner.ray_resource is not None:
        wanted[learner.ray_resource] = 1.0
    return {name: amount for name, amount in wanted.items() if amount}
