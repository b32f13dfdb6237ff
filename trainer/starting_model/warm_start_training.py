"""Supervised training of the built-in model on solutions of its task, on the CPU in float32."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from trainer.config import RunConfig, WarmStartConfig
from trainer.errors import ScopeError
from trainer.policy.evaluate import measure
from trainer.prompts.codec import PromptCodec
from trainer.starting_model.tiny_model import build_model, build_tokenizer
from trainer.starting_model.warm_start_result import WarmStart, WarmStartProgress
from trainer.tasks import TaskWithSolutions
from trainer.tasks.verification import Verification

_IGNORE = -100
_PROBE_PROBLEMS, _PROBE_SAMPLES = 256, 8


@contextmanager
def _threads(config: RunConfig) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(config.warm_start.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    config: RunConfig,
    task: TaskWithSolutions,
    directory: Path,
    on_progress: Callable[[WarmStartProgress], None],
) -> WarmStart:
    """Train the built-in model, measure it, and save it with its tokenizer to `directory`.

    Raises ScopeError if a problem does not fit into `model.max_length`.
    """
    disable_progress_bar()
    with _threads(config):
        return _train(config, task, directory, on_progress)


def _train(
    config: RunConfig,
    task: TaskWithSolutions,
    directory: Path,
    on_progress: Callable[[WarmStartProgress], None],
) -> WarmStart:
    started = time.perf_counter()
    tokenizer = build_tokenizer(task.vocabulary, config.model.max_length)
    model = build_model(config.model, tokenizer, config.warm_start.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.warm_start.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    rng = np.random.default_rng(config.warm_start.seed)
    losses = []
    for step in range(config.warm_start.steps):
        step_started = time.perf_counter()
        batch = _batch(task, tokenizer, rng, config)
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(config.warm_start, step)
        loss = _loss(model, *batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tokens = float(batch[1].sum())
        rate = tokens / (time.perf_counter() - step_started)
        on_progress(WarmStartProgress(step + 1, config.warm_start.steps, losses[-1], rate))
    with torch.no_grad():
        model.lm_head.weight /= config.warm_start.softening
    model.eval()
    seconds = time.perf_counter() - started
    problems = [task.heldout_problem(i) for i in range(min(task.heldout_size, _PROBE_PROBLEMS))]
    probe = measure(
        model,
        PromptCodec(tokenizer, config),
        Verification(task, config.task),
        problems,
        samples=_PROBE_SAMPLES,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=config.warm_start.seed,
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return WarmStart(
        path=directory,
        from_cache=False,
        seconds=seconds,
        loss=float(np.mean(losses[-math.ceil(len(losses) / 10) :])),
        entropy=probe.entropy,
        pass_at_1=probe.pass_at_1,
        parameters=sum(p.numel() for p in model.parameters()),
    )


def _learning_rate(config: WarmStartConfig, step: int) -> float:
    """Linear warm-up over a twentieth of the steps, then cosine decay to a tenth of the rate."""
    warmup = max(1, config.steps // 20)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, config.steps - warmup)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def _batch(
    task: TaskWithSolutions, tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator, config: RunConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Random training problems with a random solution each: input ids, attention mask, labels, int64[B, L]."""
    problems = [
        task.train_problem(int(i)) for i in rng.integers(task.train_size, size=config.warm_start.batch_size)
    ]
    prompts = [p.prompt for p in problems]
    answers = [task.random_solution(p, rng) + str(tokenizer.eos_token) for p in problems]
    texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    encoded = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    ids, attention = encoded["input_ids"], encoded["attention_mask"]
    if ids.shape[1] > config.model.max_length:
        raise ScopeError(
            f"model.max_length={config.model.max_length} is shorter than a problem with its solution, "
            f"{ids.shape[1]} tokens: use at least {ids.shape[1]}."
        )
    prompt_lengths = torch.tensor([len(p) for p in tokenizer(prompts)["input_ids"]])
    answer = (torch.arange(ids.shape[1]) >= prompt_lengths[:, None]) & attention.bool()
    return ids, attention, torch.where(answer, ids, _IGNORE)


def _loss(model: Qwen3ForCausalLM, ids: Tensor, attention: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of answer tokens, nats. Needs no mask, since padding follows all counted tokens."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    counted = targets != _IGNORE
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[counted]), targets[counted])
