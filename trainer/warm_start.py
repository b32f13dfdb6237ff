"""The warm start: supervised training of the tiny model, before the loop of the picture begins.

The model learns random correct answers to training problems, never held-out ones, so that it starts varied
(high entropy) and right now and then. Its logits are then divided by `warm_start.softening`: at equal entropy,
a model trained for longer and softened knows more, which leaves reinforcement something to bring out.

A finished warm start is kept in a cache under a hash of everything that decides its weights, and put there by
one rename, so that a reader never sees half of one.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from trainer.config import RunConfig, TaskConfig, WarmStartConfig
from trainer.errors import ScopeError
from trainer.probe import measure
from trainer.tasks import TaskWithSolutions, make_task
from trainer.tasks.references import source_digest
from trainer.tiny_model import build_model, build_tokenizer

CODE_VERSION = 1
"""Raised whenever a change here, in the model or in the task makes older cached warm starts wrong."""

_RECORD = "warm_start.json"
_IGNORE = -100
_PROBE_PROBLEMS, _PROBE_SAMPLES = 256, 8


@dataclass(frozen=True)
class WarmStart:
    """A finished warm start."""

    path: Path
    """Hugging Face model directory, tokenizer included"""
    from_cache: bool
    seconds: float
    """wall clock of the training, also when it came from the cache"""
    loss: float
    """nats per answer token, mean over the last tenth of the steps"""
    entropy: float
    """nats per token at temperature 1, exact, on sampled responses to held-out problems"""
    pass_at_1: float
    """on the same responses"""
    parameters: int


@dataclass(frozen=True)
class WarmStartProgress:
    """Where the training stands."""

    step: int
    of: int
    loss: float
    """nats per answer token"""
    tokens_per_second: float
    """prompt and answer tokens, padding not counted"""


def cache_key(config: RunConfig) -> str:
    """Hash of everything that decides the weights and what is measured of them; 16 hex digits."""
    parts = {
        "code": CODE_VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "task": _task_part(config.task),
        "model": config.model.model_dump(mode="json", exclude={"revision", "chat", "system_prompt"}),
        "warm_start": config.warm_start.model_dump(mode="json", exclude={"cache_dir"}),
        "max_new_tokens": config.rollout.max_new_tokens,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _task_part(task: TaskConfig) -> dict[str, Any]:
    """What of a task's configuration, and of its own code, decides the problems and solutions."""
    if ":" in task.name:
        return task.model_dump(mode="json") | {"source": source_digest(task.name, task.folder, "task.name")}
    # A share of 0 decides nothing, and neither do the blocks of other tasks.
    read = {"name", "seed", "heldout", "max_number", "max_target"}
    return task.model_dump(mode="json", include=read | ({"easy_share"} if task.easy_share else set()))


def ensure_warm_start(
    config: RunConfig, cache_root: Path, on_progress: Callable[[WarmStartProgress], None]
) -> WarmStart:
    """The warm start for `config`: from the cache, or trained now on the CPU in float32.

    The same configuration on the same kind of machine gives the same weights. Raises ScopeError for a task
    that cannot write solutions, for problems that do not fit `model.max_length`, or for a `cache_root` that
    cannot be written to.
    """
    directory = cache_root / cache_key(config)
    if (directory / _RECORD).exists():
        return _read(directory, from_cache=True)
    task = make_task(config.task)
    if not isinstance(task, TaskWithSolutions):
        raise ScopeError(
            f"task.name={config.task.name!r} writes no solutions of its own, so the built-in model cannot be "
            "warm-started on it. Set model.path to a Hugging Face model directory."
        )
    with _scratch(cache_root) as scratch, _threads(config):
        unfinished = Path(scratch) / "model"
        _train(config, task, unfinished, on_progress)
        _move_into_place(unfinished, directory)
    return _read(directory, from_cache=False)


def _read(directory: Path, *, from_cache: bool) -> WarmStart:
    record = json.loads((directory / _RECORD).read_text())
    return WarmStart(path=directory, from_cache=from_cache, **record)


def _scratch(cache_root: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        cache_root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".unfinished-", dir=cache_root)
    except OSError as error:
        raise ScopeError(
            f"The warm start cannot be kept in {cache_root} (warm_start.cache_dir): {error.strerror}. "
            "Set warm_start.cache_dir to a directory that can be written to."
        ) from error


def _move_into_place(unfinished: Path, directory: Path) -> None:
    try:
        unfinished.rename(directory)
    except OSError:
        # another run with the same configuration may have finished first: its result is the same
        if not (directory / _RECORD).exists():
            raise


@contextmanager
def _threads(config: RunConfig) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(config.warm_start.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    config: RunConfig,
    task: TaskWithSolutions,
    directory: Path,
    on_progress: Callable[[WarmStartProgress], None],
) -> None:
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
        tokenizer,
        task,
        problems,
        samples=_PROBE_SAMPLES,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=config.warm_start.seed,
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    record = WarmStart(
        path=directory,
        from_cache=False,
        seconds=seconds,
        loss=float(np.mean(losses[-math.ceil(len(losses) / 10) :])),
        entropy=probe.entropy,
        pass_at_1=probe.pass_at_1,
        parameters=sum(p.numel() for p in model.parameters()),
    )
    kept = {name: value for name, value in asdict(record).items() if name not in ("path", "from_cache")}
    (directory / _RECORD).write_text(json.dumps(kept, indent=2) + "\n")


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
    """Random training problems, a random solution each: input ids, attention mask, labels, int64[B, L]."""
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
            f"{ids.shape[1]} tokens. Use at least {ids.shape[1]}."
        )
    prompt_lengths = torch.tensor([len(p) for p in tokenizer(prompts)["input_ids"]])
    answer = (torch.arange(ids.shape[1]) >= prompt_lengths[:, None]) & attention.bool()
    return ids, attention, torch.where(answer, ids, _IGNORE)


def _loss(model: Qwen3ForCausalLM, ids: Tensor, attention: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of answer tokens, nats. Padding lies after every counted token: no mask needed."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    counted = targets != _IGNORE
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[counted]), targets[counted])
