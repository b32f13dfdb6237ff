"""Model directories and the configurations of deploy/configs are checked before anything starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import ROOT
from trainer.config import ModelConfig, RunConfig
from trainer.config.load import default_config, load_config
from trainer.errors import ScopeError
from trainer.starting_model.checks import check_loaded_tokenizer, check_tokenizer
from trainer.starting_model.tiny_model import build_tokenizer
from trainer.tasks import Vocabulary

CONFIGS = sorted((ROOT / "deploy" / "configs").glob("*.yaml"))


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """The files of a model that the check reads, with 3 + 10 tokens."""
    build_tokenizer(Vocabulary(tuple("0123456789"), split="characters"), 64).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 13}))
    return tmp_path


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


Check = Callable[[Path, ModelConfig], None]
BOTH = pytest.mark.parametrize("check", [check_tokenizer, check_loaded_tokenizer], ids=["files", "loaded"])


@BOTH
def test_a_tokenizer_of_the_model_passes_and_one_of_another_is_refused(model_dir: Path, check: Check) -> None:
    check(model_dir, ModelConfig())
    change(model_dir / "config.json", vocab_size=12)
    with pytest.raises(ScopeError, match=r"ids up to 12 \('9'\), and the model has 12"):
        check(model_dir, ModelConfig())
    (model_dir / "config.json").write_text(json.dumps({"text_config": {"vocab_size": 5}}))
    with pytest.raises(ScopeError, match="the model has 5"):
        check(model_dir, ModelConfig())


def test_an_end_token_that_is_not_in_the_vocabulary_is_refused(model_dir: Path) -> None:
    change(model_dir / "tokenizer_config.json", eos_token="<nowhere>")
    with pytest.raises(ScopeError, match="is no token"):
        check_tokenizer(model_dir, ModelConfig())


@BOTH
def test_a_tokenizer_without_an_end_token_is_refused(model_dir: Path, check: Check) -> None:
    change(model_dir / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ScopeError, match="names no eos_token"):
        check(model_dir, ModelConfig())


@BOTH
def test_chat_needs_a_template_only_where_it_is_asked_for(model_dir: Path, check: Check) -> None:
    on = ModelConfig(chat="on")
    with pytest.raises(ScopeError, match="no chat template"):
        check(model_dir, on)
    (model_dir / "chat_template.jinja").write_text("{{ messages }}")
    check(model_dir, on)


def test_a_tokenizer_that_does_not_load_is_refused(model_dir: Path) -> None:
    (model_dir / "tokenizer.json").write_text("{}")
    with pytest.raises(ScopeError, match="has no tokenizer that loads"):
        check_loaded_tokenizer(model_dir, ModelConfig())


def test_a_tokenizer_without_a_file_of_tokens_is_checked_for_its_end_token(model_dir: Path) -> None:
    (model_dir / "tokenizer.json").unlink()
    check_tokenizer(model_dir, ModelConfig())
    shutil.copy(model_dir / "config.json", model_dir / "tokenizer_config.json")
    with pytest.raises(ScopeError, match="names no eos_token"):
        check_tokenizer(model_dir, ModelConfig())


def gpus(config: RunConfig) -> tuple[float, float]:
    """(GPUs of the learner, GPUs of the generators)."""
    learner, generators = config.learner, config.generators
    engines = generators.base + generators.adaptive
    return learner.workers * learner.gpus_per_worker, engines * generators.gpus_per_generator


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_loads(path: Path) -> None:
    config = load_config(path)
    wanted = {"math-1gpu": (0.5, 0.5), "math-8gpu": (4, 4), "math-nodes": (16, 16)}
    assert gpus(config) == wanted.get(path.stem, (0, 0))
    if path.stem in wanted:
        assert "NOT RUN" in path.read_text(), "an untested configuration must say so"
        assert config.model.path is not None


def test_the_papers_setting_is_that_of_eight_gpus() -> None:
    config = load_config(next(path for path in CONFIGS if path.stem == "math-8gpu"))
    assert (config.task.dataset.train, config.entropy_control.target) == ("dapo-math-17k", 0.5)
    assert (config.rollout.prompts_per_step, config.rollout.base_samples) == (512, 5)
    assert (config.optimizer.learning_rate, config.loss.minibatches, config.loss.clip_low) == (1e-6, 4, 0.2)


def test_an_engine_on_several_gpus_needs_them_all() -> None:
    with pytest.raises(ScopeError, match=r"generators\.gpus_per_generator=4"):
        default_config(["generators.tensor_parallel=4", "generators.gpus_per_generator=1"])


@pytest.mark.parametrize(
    ("learner", "engine", "allowed"),
    [(0, 0, True), (1, 2, True), (0.5, 0.25, False), (1, 0, False), (0, 1, False)],
)
def test_a_broadcast_of_weights_needs_whole_gpus_on_both_sides_or_none(
    learner: float, engine: float, allowed: bool
) -> None:
    settings = [
        "weights.transport=collective",
        f"learner.gpus_per_worker={learner}",
        f"generators.gpus_per_generator={engine}",
    ]
    with (
        nullcontext()
        if allowed
        else pytest.raises(ScopeError, match="NCCL cannot have two members on one GPU")
    ):
        default_config(settings)
