"""One rollout of several turns: what the policy said and what the environment answered, as one response.

The response is all that follows the prompt. Tokens of the environment have loss mask 0 and log-probability 0: they are
read by the policy and not learned. Bounds: `rollout.max_turns` responses, and `rollout.max_new_tokens` tokens of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from trainer.config import RunConfig
from trainer.rollouts.prompts import encode_reply
from trainer.rollouts.trajectory import VersionSpan
from trainer.tasks.base import Environment, Problem


class Dialogue:
    """A rollout in the making. After each `say`, sample the next turn from the prompt and `tokens`, unless it ended."""

    def __init__(self, task: Environment, problem: Problem, tokenizer: Any, config: RunConfig) -> None:
        self._task, self._problem, self._tokenizer, self._config = task, problem, tokenizer, config
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        """nats, 0 for tokens of the environment"""
        self.mask: list[int] = []
        """1 for tokens of the policy"""
        self.spans: list[VersionSpan] = []
        """which policy version sampled which tokens; those of the environment count with what precedes them"""
        self.turns: list[str] = []
        """the policy's responses, without the end token"""
        self.finish: Literal["stop", "length"] | None = None
        """None while it goes on; length: cut off by `rollout.max_new_tokens`"""

    @property
    def room(self) -> int:
        """Tokens that the next turn may take."""
        return self._config.rollout.max_new_tokens - len(self.tokens)

    def say(
        self, tokens: Sequence[int], logprobs: Sequence[float], spans: Sequence[VersionSpan], *, stopped: bool
    ) -> None:
        """Add a turn of the policy, and the environment's answer if there is one.

        tokens: at most `room`, the end token included; spans: counted from the turn's first token; stopped: the policy
        ended the turn itself.
        """
        self._add_spans(spans)
        self.tokens += [int(token) for token in tokens]
        self.logprobs += [float(logprob) for logprob in logprobs]
        self.mask += [1] * len(tokens)
        if not stopped:
            self.finish = "length"
            return
        said = self.tokens[len(self.tokens) - len(tokens) : -1]
        self.turns.append(str(self._tokenizer.decode(said)))
        reply = self._task.reply(self._problem, tuple(self.turns))
        if reply is None or len(self.turns) == self._config.rollout.max_turns:
            self.finish = "stop"
            return
        heard = encode_reply(self._tokenizer, reply, self._config)
        if len(heard) >= self.room:
            self.finish = "length"
            return
        self.tokens += heard
        self.logprobs += [0.0] * len(heard)
        self.mask += [0] * len(heard)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens int32[T], log-probabilities float32[T] in nats, mask uint8[T]."""
        return (
            np.asarray(self.tokens, "<i4"),
            np.asarray(self.logprobs, "<f4"),
            np.asarray(self.mask, "u1"),
        )

    def _add_spans(self, spans: Sequence[VersionSpan]) -> None:
        for span in spans:
            if self.spans and (self.spans[-1].lineage, self.spans[-1].step) == (span.lineage, span.step):
                continue
            self.spans.append(VersionSpan(len(self.tokens) + span.first_token, span.lineage, span.step))
