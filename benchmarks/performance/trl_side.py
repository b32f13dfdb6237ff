"""TRL's side of `against_trl.py`: its GRPOTrainer on a run's prompts, rewards, groups and updates.

    python trl_side.py JOB.json

Runs in TRL's own environment and uses `trainer` only for the configuration, the task and the order of its problems.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.time()


def main() -> None:
    """Train as the job describes. Writes the end time and the tokens of each learner step, and the kept policies."""
    job = json.loads(Path(sys.argv[1]).read_text())
    import torch

    torch.set_num_threads(job["threads"])
    from datasets import Dataset  # pyright: ignore[reportMissingImports]
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportMissingImports]

    from trainer.config.load import load_config
    from trainer.rollouts.problem_order import problem_at
    from trainer.tasks import make_task

    config = load_config(job["config"])
    task, rollout, updates = make_task(config.task), config.rollout, config.loss.minibatches
    tokenizer: Any = AutoTokenizer.from_pretrained(job["model"])
    problems = [problem_at(task, config, i, 0, None) for i in range(rollout.prompts_per_step * job["steps"])]
    tokens: list[int] = []

    def reward(completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float]:
        tokens.append(sum(map(len, completion_ids)))
        scores = []
        for ids, i in zip(completion_ids, number, strict=True):
            ended = bool(ids) and ids[-1] == tokenizer.eos_token_id
            text = tokenizer.decode(ids[:-1]) if ended else ""
            scores.append(task.verify(problems[i], text).reward if ended else 0.0)
        return scores

    ends: list[float] = []
    kept: list[tuple[float, str]] = []

    def keep(path: Path) -> str:
        trainer.save_model(str(path))
        tokenizer.save_pretrained(str(path))
        return str(path)

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.time())
            step, rest = divmod(len(ends), updates)
            if job["keep_every"] and not rest and not step % job["keep_every"]:
                kept.append((ends[-1], keep(Path(job["out"], f"step-{step}"))))

    arguments = GRPOConfig(
        output_dir=job["out"],
        max_steps=job["steps"] * updates,
        per_device_train_batch_size=rollout.prompts_per_step * rollout.base_samples // updates,
        steps_per_generation=updates,
        num_generations=rollout.base_samples,
        max_completion_length=rollout.max_new_tokens,
        temperature=rollout.base_temperature,
        learning_rate=config.optimizer.learning_rate,
        lr_scheduler_type="constant",
        adam_beta1=config.optimizer.beta1,
        adam_beta2=config.optimizer.beta2,
        weight_decay=config.optimizer.weight_decay,
        max_grad_norm=config.optimizer.gradient_clip,
        beta=0.0,
        epsilon=config.loss.clip_low,
        epsilon_high=config.loss.clip_high,
        loss_type="grpo",
        shuffle_dataset=False,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
    )
    rows = [{"prompt": problem.prompt, "number": i} for i, problem in enumerate(problems)]
    trainer = GRPOTrainer(
        model=job["model"],
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    began = time.time()
    trainer.train()
    keep(Path(job["out"], "model"))
    document = {
        "started": STARTED,
        "began": began,
        "step_ends": ends[updates - 1 :: updates],
        "tokens": tokens,
        "kept": kept,
        "ended": time.time(),
    }
    Path(job["out"], "result.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
