"""The turns of one rollout on an engine: each is an engine request of its own, on the prompt and all said so far.

The engine's prefix cache holds what earlier turns computed. Weights may be loaded between two turns as within one:
each request says which versions sampled it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.rollouts.multi_turn import Dialogue

if TYPE_CHECKING:
    from services.engine import Sample, SamplingEngine


async def hold_dialogue(
    engine: SamplingEngine,
    prompt: Sequence[int],
    dialogue: Dialogue,
    opening: Sample,
    *,
    temperature: float,
    top_p: float,
    eos_token: int,
) -> Sample:
    """Take turns until the dialogue ends; the whole rollout as one sample. opening: the first turn, sampled already."""
    from services.engine import Sample

    turn = opening
    while True:
        stopped = turn.finish_reason == "stop"
        dialogue.say(turn.tokens.tolist(), turn.logprobs.tolist(), turn.versions, stopped=stopped)
        if dialogue.finish is not None:
            tokens, logprobs, mask = dialogue.arrays()
            return Sample(tokens, logprobs, dialogue.finish, dialogue.spans, mask, tuple(dialogue.turns))
        (turn,) = await engine.sample(
            [*prompt, *dialogue.tokens],
            n=1,
            temperature=temperature,
            top_p=top_p,
            max_tokens=dialogue.room,
            eos_token=eos_token,
        )
