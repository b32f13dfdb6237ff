"""Scores rollouts on other threads than the event loop's, so that the engine does not wait for a verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from trainer.config import RunConfig
from trainer.prompts.codec import PromptCodec
from trainer.tasks import NO_END, Environment, Problem, Task, Verdict
from trainer.tasks.reward_shaping import shape
from trainer.tasks.verification import Verification

if TYPE_CHECKING:
    from services.inference.sample import Sample


class Scorer:
    """Scores the rollouts of one generator, as many at once as the verifier has workers."""

    def __init__(self, config: RunConfig, task: Task, codec: PromptCodec) -> None:
        self._config, self._task, self._codec = config, task, codec
        self._verification = Verification(task, config.task)
        self._workers = max(task.verifier.workers for task in (config.task, *config.task.mixture))
        self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="verifier")

    async def verdicts(self, problem: Problem, samples: Sequence[Sample]) -> list[Verdict]:
        """Return the verdict on each sample, unscored where the verifier fails; raises like `Verification`."""
        loop = asyncio.get_running_loop()
        # Decode here, because two threads must not use the tokenizer at once.
        responses = [(sample, self.text(sample)) for sample in samples]
        # One call for each thread: a call for each response would cost more than most verdicts.
        shares = [responses[first :: self._workers] for first in range(min(self._workers, len(responses)))]
        scored = await asyncio.gather(
            *(loop.run_in_executor(self._threads, self._share, problem, share) for share in shares)
        )
        return [scored[i % len(shares)][i // len(shares)] for i in range(len(responses))]

    async def rewards(self, problem: Problem, samples: Sequence[Sample]) -> list[Verdict]:
        """Return the verdicts with rewards shaped by `task.reward`, as training uses them."""
        limit = self._config.rollout.max_new_tokens
        return [
            shape(verdict, len(sample.tokens), self._config.task.reward, limit)
            for verdict, sample in zip(await self.verdicts(problem, samples), samples, strict=True)
        ]

    def text(self, sample: Sample) -> str:
        """Decode a response without its end token."""
        return self._codec.decode(sample.tokens.tolist())

    def _share(self, problem: Problem, responses: Sequence[tuple[Sample, str]]) -> list[Verdict]:
        return [self._verdict(problem, sample, text) for sample, text in responses]

    def _verdict(self, problem: Problem, sample: Sample, text: str) -> Verdict:
        if sample.verdict is not None:
            return sample.verdict
        if sample.finish_reason == "length":
            return NO_END
        if isinstance(self._task, Environment):
            return self._verification.verify_turns(problem, sample.turns)
        return self._verification.verify(problem, text)
