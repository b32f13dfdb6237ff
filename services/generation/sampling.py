"""Samples the responses to a problem, of one turn or several, for generators and `scope eval`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.config import RunConfig
from trainer.prompts.codec import PromptCodec
from trainer.rollouts.multi_turn import Dialogue
from trainer.tasks import Environment, Problem, Task

if TYPE_CHECKING:
    from services.inference.engine import SamplingEngine
    from services.inference.sample import Sample


class ProblemSampler:
    """Encodes the prompts of a task and requests responses to them from an engine."""

    def __init__(self, config: RunConfig, task: Task, codec: PromptCodec) -> None:
        self._config, self._task, self._codec = config, task, codec

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Every token after which a response has ended."""
        return self._codec.end_tokens

    def prompt(self, problem: Problem) -> list[int]:
        """Encode a problem's prompt as token ids. Raises ScopeError for a problem that cannot be a prompt."""
        return self._codec.encode(problem)

    async def sample(
        self,
        engine: SamplingEngine,
        problem: Problem,
        prompt: Sequence[int],
        *,
        samples: int,
        temperature: float,
        top_p: float = 1.0,
    ) -> list[Sample]:
        """Sample `samples` responses, each with all of its turns if the task is an environment.

        prompt: token ids of the problem's prompt.
        """
        task = self._task
        first = await engine.sample(
            prompt,
            n=samples,
            temperature=temperature,
            top_p=top_p,
            max_tokens=self._config.rollout.max_new_tokens,
            end_tokens=self.end_tokens,
        )
        if not isinstance(task, Environment):
            return first
        dialogues = [Dialogue(task, problem, self._codec, self._config) for _ in first]
        return await asyncio.gather(
            *(
                hold_dialogue(
                    engine,
                    prompt,
                    dialogue,
                    opening,
                    temperature=temperature,
                    top_p=top_p,
                    end_tokens=self.end_tokens,
                )
                for dialogue, opening in zip(dialogues, first, strict=True)
            )
        )


async def hold_dialogue(
    engine: SamplingEngine,
    prompt: Sequence[int],
    dialogue: Dialogue,
    opening: Sample,
    *,
    temperature: float,
    top_p: float,
    end_tokens: tuple[int, ...],
) -> Sample:
    """Sample turns until the dialogue ends; returns the whole rollout as one sample. opening: the first turn."""
    from services.inference.sample import Sample

    turn = opening
    while True:
        stopped = turn.finish_reason == "stop"
        dialogue.add_turn(turn.tokens.tolist(), turn.logprobs.tolist(), turn.versions, stopped=stopped)
        if dialogue.finish is not None:
            tokens, logprobs, mask = dialogue.arrays()
            turns = tuple(dialogue.turns)
            return Sample(tokens, logprobs, dialogue.finish, dialogue.spans, mask, turns, dialogue.verdict)
        (turn,) = await engine.sample(
            [*prompt, *dialogue.tokens],
            n=1,
            temperature=temperature,
            top_p=top_p,
            max_tokens=dialogue.tokens_left,
            end_tokens=end_tokens,
        )
