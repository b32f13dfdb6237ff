"""A tiny policy trained on an easy Countdown, and the learner's view of it, for tests with real engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from services.weights.probe import Probe
from services.weights.serialization import serialize
from trainer.config import LearnerConfig, RunConfig
from trainer.config.load import validate_config
from trainer.policy.model import PolicyModel, load_policy
from trainer.starting_model.warm_start import ensure_warm_start

PROBE_TOKENS = 16


def tiny_config(**blocks: dict[str, object]) -> RunConfig:
    """A configuration with numbers up to 6 and a two-layer model of width 64; `blocks` are merged over it."""
    tree: dict[str, dict[str, object]] = {
        "task": {"max_number": 6, "max_target": 40, "heldout": 32},
        "model": {"hidden_size": 64, "layers": 2, "heads": 2, "ffn_size": 128, "max_length": 64},
        "warm_start": {"steps": 150, "learning_rate": 6e-3, "batch_size": 64, "softening": 1.0, "threads": 1},
        "rollout": {"prompts_per_step": 6, "base_samples": 4, "adaptive_samples": 3, "max_new_tokens": 24},
        "generators": {"groups_in_flight": 8, "gpu_memory_fraction": 0.2},
        "evaluation": {"problems": 8, "samples": 4, "ks": [1, 4]},
    }
    merged = {name: tree.get(name, {}) | blocks.get(name, {}) for name in tree.keys() | blocks.keys()}
    return validate_config(merged)


def make_tiny_model(cache: Path) -> Path:
    """The Hugging Face directory of a policy that solves some of the easy problems; training takes a few seconds."""
    return ensure_warm_start(tiny_config(), cache, lambda _: None).path


class LearnerView:
    """One set of weights in the learner: what it publishes, and its log-probabilities."""

    def __init__(self, model_dir: Path, change: Callable[[str, Tensor], Tensor] | None = None) -> None:
        self.policy: PolicyModel = load_policy(
            model_dir, LearnerConfig(logit_chunk_tokens=256, share_prompts=False)
        ).eval()
        with torch.no_grad():
            for name, parameter in self.policy.model.named_parameters():
                parameter.copy_(change(name, parameter) if change else parameter)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights by Hugging Face name."""
        return {name: p.detach().clone() for name, p in self.policy.model.named_parameters()}

    @property
    def payload(self) -> np.ndarray:
        """The weights as serialized for transfer."""
        return serialize(self.weights)

    def probe(self) -> Probe:
        """A probe of these weights, as the learner makes it."""
        vocabulary = self.policy.model.config.vocab_size
        tokens = torch.randint(0, vocabulary, (PROBE_TOKENS,), generator=torch.Generator().manual_seed(5))
        (logprobs,) = self.logprobs(tokens[:1].tolist(), [tokens[1:].numpy()], 1.0)
        return Probe(tokens.tolist(), logprobs.tolist())

    @torch.no_grad()
    def logprobs(
        self, prompt: list[int], responses: Sequence[np.ndarray], temperature: float
    ) -> list[np.ndarray]:
        """Log-probabilities of each response to `prompt` by a plain float32 Hugging Face forward, float32[T], nats."""
        longest = max(len(response) for response in responses)
        tokens = torch.tensor(np.stack([np.pad(r, (0, longest - len(r))) for r in responses])).long()
        ids = torch.cat([torch.tensor(prompt).expand(len(responses), -1), tokens], dim=1)
        logits = self.policy.model(input_ids=ids).logits[:, len(prompt) - 1 : -1]
        chosen = (logits / temperature).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        return [row[: len(response)].numpy() for row, response in zip(chosen, responses, strict=True)]


def perturbed(scale: float, seed: int, *, head: float = 1.0) -> Callable[[str, Tensor], Tensor]:
    """A change of weights: Gaussian noise of `scale` times each tensor's standard deviation, the head scaled by `head`.

    A `head` below 1 flattens the policy, so that it ends its responses at varied lengths.
    """
    generator = torch.Generator().manual_seed(seed)

    def change(name: str, parameter: Tensor) -> Tensor:
        noise = scale * (parameter.std() + 0.01) * torch.randn(parameter.shape, generator=generator)
        return (parameter + noise) * (head if name == "lm_head.weight" else 1.0)

    return change
