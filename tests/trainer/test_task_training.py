"""Every kind of task trains and is evaluated with the real learner, loss and sampler, in one process."""

from __future__ import annotations

import json
import math
import string
from pathlib import Path
from typing import Any

import pytest

from tests.support.generation.tiny import tiny_config
from tests.support.generation.word_model import make_model
from tests.support.reward_service import reward_service
from trainer.in_process.run import InProcessRun

pytestmark = pytest.mark.timeout(300)

REWARD = '''
"""A verl-style reward: the share of sevens among the first four characters."""

def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return solution_str[:4].count(ground_truth) / 4
'''


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), string.printable)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = [{"problem": f"Write sevens {i}", "answer": "7"} for i in range(64)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sevens.py").write_text(REWARD)
    return folder


def tasks(data: Path) -> dict[str, dict[str, Any]]:
    """The `task` block of each kind of task."""
    dataset = {"train": str(data / "train.jsonl"), "instruction": ":"}
    patient = {"timeout_seconds": 60.0}
    function = {"kind": "function", "function": "sevens:compute_score"}
    reasoning = {"dataset": "chain_sum", "size": 1000, "instruction": " <answer>"}
    return {
        "mathematics": {"name": "dataset", "dataset": dataset, "verifier": patient},
        "function": {
            "name": "dataset",
            "dataset": dataset,
            "folder": str(data),
            "verifier": patient | function,
        },
        "reasoning_gym": {"name": "reasoning_gym", "reasoning_gym": reasoning, "verifier": patient},
        "mixture": {
            "name": "mixture",
            "mixture": [
                {"name": "reasoning_gym", "reasoning_gym": reasoning, "verifier": patient, "heldout": 16},
                {"name": "dataset", "dataset": dataset, "verifier": patient, "heldout": 16},
            ],
        },
    }


def run(model_dir: Path, task: dict[str, Any], **blocks: dict[str, object]) -> InProcessRun:
    """A run with a few short rollouts per step."""
    defaults: dict[str, object] = {"heldout": 16, "max_number": 20, "max_target": 99}
    config = tiny_config(
        task=defaults | task,
        model={"path": str(model_dir), "max_length": 512},
        **blocks,
    )
    return InProcessRun(config, model_dir)


@pytest.mark.parametrize("kind", ["mathematics", "reasoning_gym", "mixture"])
def test_a_task_trains_for_some_steps_and_is_evaluated(kind: str, model_dir: Path, data: Path) -> None:
    training = run(model_dir, tasks(data)[kind])
    for _, step in zip(range(2), training.steps(), strict=False):
        assert math.isfinite(step.entropy)
        assert 0 <= step.reward <= 1
        assert step.generated_tokens > 0
    evaluation = training.evaluate(2, samples=2)
    assert len(evaluation.correct) == 8


def test_what_a_service_rewards_is_trained_on_and_evaluated(model_dir: Path, data: Path) -> None:
    with reward_service() as service:
        verifier = {"kind": "http", "url": service.url, "timeout_seconds": 60.0}
        task = tasks(data)["mathematics"] | {"verifier": verifier}
        training = run(model_dir, task)
        rewards = [step.reward for _, step in zip(range(2), training.steps(), strict=False)]
        trained = len(service.seen)
        evaluation = training.evaluate(2, samples=2)
        assert all(0 <= reward <= 1 for reward in rewards)
        assert 0 < trained < len(service.seen)
        assert {one["answer"] for one in service.seen} == {"7"}
    assert len(evaluation.correct) == 8


def test_a_reward_function_of_ones_own_is_learned(tmp_path: Path, data: Path) -> None:
    training = run(
        make_model(tmp_path, string.digits),
        tasks(data)["function"],
        rollout={"prompts_per_step": 8, "base_samples": 8, "adaptive_samples": 2, "max_new_tokens": 16},
        optimizer={"learning_rate": 1e-3},
        entropy_control={"kind": "none"},
        generators={"adaptive": 0},
    )
    rewards = [step.reward for _, step in zip(range(40), training.steps(), strict=False)]
    # The learning rate is high, so that few steps suffice; the reward then swings, differently on each processor.
    first, *later = (sum(rewards[start : start + 5]) / 5 for start in range(0, 40, 5))
    assert first < 0.2
    assert max(later) > 2 * first + 0.2, rewards
