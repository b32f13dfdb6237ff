"""Sampling and scoring of an in-process run: the groups of a learner step, sampled with the learner's weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from trainer.config import RunConfig
from trainer.policy.evaluate import score
from trainer.policy.sampler import Samples, sample
from trainer.prompts.codec import PromptCodec
from trainer.roles import Role
from trainer.rollouts.curriculum import StepMix
from trainer.rollouts.multi_turn import Dialogue
from trainer.rollouts.rewards import is_uniform
from trainer.rollouts.trajectory import Group, Trajectory, VersionSpan
from trainer.rollouts.usable_problems import UsableProblems
from trainer.tasks import NO_END, Environment, Problem, Task, Verdict
from trainer.tasks.reward_shaping import shape
from trainer.tasks.verification import Verification


class InProcessRollouts:
    """Samples groups from the current weights of `model`, with random numbers of `generator`."""

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        model: PreTrainedModel,
        codec: PromptCodec,
        generator: torch.Generator,
    ) -> None:
        self._config, self._task, self._model, self._codec = config, task, model, codec
        self._problems = UsableProblems(task, config, codec)
        self._verification = Verification(task, config.task)
        self._generator = generator

    def groups(
        self, step: int, policy: int, role: Role, temperature: float, mix: StepMix | None
    ) -> tuple[list[Group], int]:
        """The groups of `step` by policy version `policy`, and the number of tokens sampled for them."""
        rollout, base = self._config.rollout, role == "base"
        samples = rollout.base_samples if base else rollout.adaptive_samples
        reported = temperature if base else 1.0
        first = step * rollout.prompts_per_step
        ordinals = range(first, first + rollout.prompts_per_step)
        problems = [self._problems.train(ordinal, 0, mix) for ordinal in ordinals]
        made, tokens = self.rollouts(problems, samples, temperature, reported, policy)
        for attempt in range(1, rollout.refills + 1) if base else ():
            again = [i for i, of in enumerate(made) if is_uniform([t.reward for t in of if t.scored])]
            if not again:
                break
            others = [self._problems.train(ordinals[i], attempt, mix) for i in again]
            remade, more = self.rollouts(others, samples, temperature, reported, policy)
            tokens += more
            for i, problem, of in zip(again, others, remade, strict=True):
                problems[i], made[i] = problem, of
        groups = [
            Group(
                run_id="in-process",
                task=self._task.name,
                problem_id=problem.id,
                role=role,
                ordinal=ordinal,
                sampling_temperature=temperature,
                entropy_target_generation=1,
                prompt_tokens=np.asarray(self._codec.encode(problem), "<i4").tobytes(),
                producer_id="in-process",
                producer_sequence=ordinal,
                started_at=0.0,
                finished_at=0.0,
                trajectories=of,
            )
            for ordinal, problem, of in zip(ordinals, problems, made, strict=True)
        ]
        return groups, tokens

    def rollouts(
        self, problems: Sequence[Problem], samples: int, temperature: float, reported: float, policy: int
    ) -> tuple[list[list[Trajectory]], int]:
        """`samples` scored rollouts per problem, and the number of sampled tokens.

        temperature: of sampling; reported: of the log-probabilities; policy: version, for the trajectories.
        """
        prompts = [self._codec.encode(problem) for problem in problems]
        drawn = self._draw(prompts, samples, temperature, reported)
        of = [problem for problem in problems for _ in range(samples)]
        if isinstance(self._task, Environment):
            dialogues = self._take_turns(
                self._task, of, [p for p in prompts for _ in range(samples)], drawn, temperature, reported
            )
            flat = [
                self._dialogue(problem, dialogue, row % samples, policy, reported)
                for row, (problem, dialogue) in enumerate(zip(of, dialogues, strict=True))
            ]
            tokens = sum(int(trajectory.mask.sum()) for trajectory in flat)
        else:
            verdicts = score(self._verification, self._codec, problems, drawn)
            flat = [
                self._single(drawn, row, row % samples, policy, reported, verdict)
                for row, verdict in enumerate(verdicts)
            ]
            tokens = int(drawn.lengths.sum())
        return [flat[i : i + samples] for i in range(0, len(flat), samples)], tokens

    def _draw(
        self, prompts: Sequence[list[int]], samples: int, temperature: float, reported: float
    ) -> Samples:
        return sample(
            self._model,
            prompts,
            self._codec.end_tokens,
            samples=samples,
            temperature=temperature,
            logprob_temperature=reported,
            max_new_tokens=self._config.rollout.max_new_tokens,
            generator=self._generator,
        )

    def _take_turns(
        self,
        task: Environment,
        problems: Sequence[Problem],
        prompts: Sequence[list[int]],
        drawn: Samples,
        temperature: float,
        reported: float,
    ) -> list[Dialogue]:
        dialogues = [Dialogue(task, problem, self._codec, self._config) for problem in problems]
        going = list(range(len(problems)))
        while going:
            for row, i in enumerate(going):
                length = min(int(drawn.lengths[row]), dialogues[i].tokens_left)
                dialogues[i].add_turn(
                    drawn.tokens[row, :length].tolist(),
                    drawn.logprobs[row, :length].tolist(),
                    [VersionSpan(0, 0, 0)],
                    stopped=bool(drawn.ended[row]) and length == int(drawn.lengths[row]),
                )
            going = [i for i in going if dialogues[i].finish is None]
            if going:
                said = [prompts[i] + dialogues[i].tokens for i in going]
                drawn = self._draw(said, 1, temperature, reported)
        return dialogues

    def _dialogue(
        self, problem: Problem, dialogue: Dialogue, index: int, policy: int, reported: float
    ) -> Trajectory:
        verdict = dialogue.verdict
        if verdict is None and dialogue.finish == "length":
            verdict = NO_END
        elif verdict is None:
            verdict = self._verification.verify_turns(problem, dialogue.turns)
        tokens, logprobs, mask = dialogue.arrays()
        ended = dialogue.finish == "stop"
        return self._trajectory(index, tokens, logprobs, mask, policy, reported, verdict, ended=ended)

    def _single(
        self, drawn: Samples, row: int, index: int, policy: int, reported: float, verdict: Verdict
    ) -> Trajectory:
        length = int(drawn.lengths[row])
        return self._trajectory(
            index,
            drawn.tokens[row, :length].numpy().astype("<i4"),
            drawn.logprobs[row, :length].numpy().astype("<f4"),
            np.ones(length, "u1"),
            policy,
            reported,
            verdict,
            ended=bool(drawn.ended[row]),
        )

    def _trajectory(
        self,
        index: int,
        tokens: np.ndarray,
        logprobs: np.ndarray,
        mask: np.ndarray,
        policy: int,
        reported: float,
        verdict: Verdict,
        *,
        ended: bool,
    ) -> Trajectory:
        shaped = shape(verdict, len(tokens), self._config.task.reward, self._config.rollout.max_new_tokens)
        return Trajectory(
            group_index=index,
            response_tokens=tokens.tobytes(),
            behaviour_logprobs=logprobs.tobytes(),
            loss_mask=mask.tobytes(),
            logprob_temperature=reported,
            versions=[VersionSpan(0, 0, policy)],
            reward=shaped.reward,
            reward_components={},
            verdict=shaped.verdict,
            finish_reason="stop" if ended else "length",
            scored=shaped.unscored is None,
            correct=shaped.correct,
        )
