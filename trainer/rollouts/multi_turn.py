"""A multi-turn rollout: the policy's turns and the environment's replies as one response.

The response is everything after the prompt. Tokens of the environment have loss mask 0 and log-probability 0: the
policy reads them and does not learn from them. Bounds: `rollout.max_turns` turns of the policy, and
`rollout.max_new_tokens` tokens of both sides together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from trainer.config import RunConfig
from trainer.prompts.codec import PromptCodec
from trainer.rollouts.trajectory import VersionSpan
from trainer.tasks.base import Environment, Problem, Verdict
from trainer.tasks.verification import Verification


class Dialogue:
    """A rollout being sampled. Until `finish` is set, sample a turn from the prompt and `tokens` and `add_turn` it."""

    def __init__(self, task: Environment, problem: Problem, codec: PromptCodec, config: RunConfig) -> None:
        self._verification = Verification(task, config.task)
        self._problem, self._codec, self._config = problem, codec, config
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        """nats, 0 for tokens of the environment"""
        self.mask: list[int] = []
        """1 for tokens of the policy, 0 for tokens of the environment"""
        self.spans: list[VersionSpan] = []
        """which policy version sampled which tokens; tokens of the environment belong to the span before them"""
        self.turns: list[str] = []
        """the policy's responses, without the end token"""
        self.finish: Literal["stop", "length"] | None = None
        """None until the rollout ends; length: cut off by `rollout.max_new_tokens`"""
        self.verdict: Verdict | None = None
        """the verdict, where the rollout ended because the environment did not reply"""

    @property
    def tokens_left(self) -> int:
        """Largest number of tokens that the next turn may have."""
        return self._config.rollout.max_new_tokens - len(self.tokens)

    def add_turn(
        self, tokens: Sequence[int], logprobs: Sequence[float], spans: Sequence[VersionSpan], *, stopped: bool
    ) -> None:
        """Add a turn of the policy, and the environment's reply if there is one.

        tokens: at most `tokens_left`, with the end token; spans: counted from the turn's first token; stopped: the
        policy sampled an end token, its last one.
        """
        self._add_spans(spans)
        self.tokens += [int(token) for token in tokens]
        self.logprobs += [float(logprob) for logprob in logprobs]
        self.mask += [1] * len(tokens)
        if not stopped:
            self.finish = "length"
            return
        self.turns.append(self._codec.decode(self.tokens[len(self.tokens) - len(tokens) :]))
        reply = self._verification.reply(self._problem, tuple(self.turns))
        if isinstance(reply, Verdict):
            self.finish, self.verdict = "stop", reply
            return
        if reply is None or len(self.turns) == self._config.rollout.max_turns:
            self.finish = "stop"
            return
        reply_tokens = self._codec.encode_reply(self._problem, reply, self.tokens[-1])
        if len(reply_tokens) >= self.tokens_left:
            self.finish = "length"
            return
        self.tokens += reply_tokens
        self.logprobs += [0.0] * len(reply_tokens)
        self.mask += [0] * len(reply_tokens)

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
