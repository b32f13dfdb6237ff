"""The warm start with a model small enough to train in a second or two, and the tiny model's checkpoint."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.config import ModelConfig, RunConfig, TaskConfig, WarmStartConfig
from trainer.errors import ScopeError
from trainer.head.logprobs import entropy_of_logits
from trainer.policy.sampler import sample
from trainer.starting_model import warm_start
from trainer.starting_model.tiny_model import build_model, build_tokenizer
from trainer.starting_model.warm_start import cache_key, ensure_warm_start
from trainer.starting_model.warm_start_result import WarmStart, WarmStartProgress
from trainer.tasks import Problem
from trainer.tasks.countdown.chain_of_thought import CountdownCot
from trainer.tasks.countdown.task import Countdown

ALPHABET = "".join(Countdown.vocabulary.tokens)

CONFIG = RunConfig(
    task=TaskConfig(max_number=6, max_target=30, heldout=64),
    model=ModelConfig(hidden_size=32, layers=2, heads=1, head_dim=32, ffn_size=64, max_length=40),
    warm_start=WarmStartConfig(steps=60, batch_size=64, learning_rate=5e-3, threads=1),
)


def with_warm_start(**changes: float) -> RunConfig:
    return CONFIG.model_copy(update={"warm_start": CONFIG.warm_start.model_copy(update=changes)})


def ignore(_: WarmStartProgress) -> None:
    pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(root: Path) -> tuple[WarmStart, list[WarmStartProgress]]:
    progress: list[WarmStartProgress] = []
    return ensure_warm_start(CONFIG, root, progress.append), progress


def test_progress_is_reported_each_step_and_the_loss_falls(trained: tuple) -> None:
    _, progress = trained
    assert [(p.step, p.of) for p in progress] == [(i + 1, 60) for i in range(60)]
    assert all(p.tokens_per_second > 0 for p in progress)
    assert np.mean([p.loss for p in progress[-6:]]) < 0.6 * progress[0].loss


def test_the_record_says_what_was_made(trained: tuple) -> None:
    result, progress = trained
    assert not result.from_cache
    assert result.loss == pytest.approx(np.mean([p.loss for p in progress[-6:]]))
    assert 0 < result.entropy < np.log(len(ALPHABET) + 3)
    assert 0 <= result.pass_at_1 <= 1
    assert result.parameters == sum(v.numel() for v in load_file(result.path / "model.safetensors").values())


def test_a_second_call_takes_it_from_the_cache_without_training(root: Path, trained: tuple) -> None:
    again = ensure_warm_start(CONFIG, root, lambda _: pytest.fail("trained again"))
    assert again.from_cache
    assert again.path == trained[0].path
    assert (again.entropy, again.loss, again.seconds) == (
        trained[0].entropy,
        trained[0].loss,
        trained[0].seconds,
    )


def test_the_same_configuration_gives_the_same_weights_elsewhere(trained: tuple, tmp_path: Path) -> None:
    torch.rand(7)  # the state of the global random generator must not matter
    other = ensure_warm_start(CONFIG, tmp_path, ignore)
    first = load_file(trained[0].path / "model.safetensors")
    second = load_file(other.path / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert other.entropy == trained[0].entropy


def test_softening_divides_the_logits_and_nothing_else(trained: tuple, tmp_path: Path) -> None:
    softening = 2 * CONFIG.warm_start.softening
    softer = ensure_warm_start(with_warm_start(softening=softening), tmp_path, ignore)
    first = load_file(trained[0].path / "model.safetensors")
    second = load_file(softer.path / "model.safetensors")
    assert softer.entropy > trained[0].entropy
    for name, weight in first.items():
        torch.testing.assert_close(second[name] * (2 if name == "lm_head.weight" else 1), weight, msg=name)


def test_training_leaves_global_random_state_and_threads_as_they_were(tmp_path: Path) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    ensure_warm_start(with_warm_start(steps=1), tmp_path, ignore)
    assert torch.equal(state, torch.get_rng_state())
    assert threads == torch.get_num_threads()


@pytest.mark.parametrize("field", ["seed", "steps", "batch_size", "learning_rate", "softening", "threads"])
def test_the_cache_key_follows_what_decides_the_weights(field: str) -> None:
    changed = with_warm_start(**{field: getattr(CONFIG.warm_start, field) + 1})
    assert cache_key(changed) != cache_key(CONFIG)


def test_the_cache_key_follows_the_task_the_model_and_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        cache_key(CONFIG),
        cache_key(CONFIG.model_copy(update={"task": CONFIG.task.model_copy(update={"seed": 99})})),
        cache_key(CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"ffn_size": 65})})),
    }
    monkeypatch.setattr(warm_start, "CODE_VERSION", warm_start.CODE_VERSION + 1)
    keys.add(cache_key(CONFIG))
    assert len(keys) == 4


def test_the_cache_key_ignores_where_the_cache_is_and_how_the_run_goes_on() -> None:
    moved = CONFIG.model_copy(
        update={"warm_start": CONFIG.warm_start.model_copy(update={"cache_dir": "/elsewhere"}), "seed": 5}
    )
    assert cache_key(moved) == cache_key(CONFIG)


def test_a_share_of_easy_problems_is_in_the_cache_key_only_where_there_are_some() -> None:
    older = CONFIG.task.model_dump(mode="json")
    assert older.pop("easy_share") == 0
    older = {name: older[name] for name in ("name", "seed", "max_number", "max_target", "heldout")}
    parts = {
        "code": warm_start.CODE_VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "task": older,
        "model": CONFIG.model.model_dump(
            mode="json", exclude={"revision", "chat", "system_prompt", "system_role"}
        ),
        "warm_start": CONFIG.warm_start.model_dump(mode="json", exclude={"cache_dir"}),
        "max_new_tokens": CONFIG.rollout.max_new_tokens,
    }
    assert cache_key(CONFIG) == hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    mixed = CONFIG.model_copy(update={"task": CONFIG.task.model_copy(update={"easy_share": 0.5})})
    assert cache_key(mixed) != cache_key(CONFIG)


def test_an_interrupted_training_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(progress: WarmStartProgress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_warm_start(with_warm_start(steps=3), tmp_path, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_making_the_same_one_at_once_both_succeed(tmp_path: Path) -> None:
    config = with_warm_start(steps=2)
    rivals: list[WarmStart] = []

    def race(progress: WarmStartProgress) -> None:
        if progress.step == progress.of:
            rivals.append(ensure_warm_start(config, tmp_path, ignore))

    result = ensure_warm_start(config, tmp_path, race)
    assert result.path == rivals[0].path
    assert [path.name for path in tmp_path.iterdir()] == [result.path.name]


def test_no_held_out_problem_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: set[str] = set()

    class Recording(Countdown):
        def random_solution(self, problem: Problem, rng: np.random.Generator) -> str:
            learned.add(problem.id)
            return super().random_solution(problem, rng)

    monkeypatch.setattr(warm_start, "make_task", Recording)
    ensure_warm_start(with_warm_start(steps=20), tmp_path, ignore)
    task = Countdown(CONFIG.task)
    assert len(learned) > 0.5 * task.train_size
    assert learned.isdisjoint(task.heldout_problem(i).id for i in range(task.heldout_size))


def test_a_task_brings_its_own_vocabulary(tmp_path: Path) -> None:
    task = TaskConfig(name="countdown_cot", max_number=4, max_target=20, heldout=16, easy_share=0.25)
    model = CONFIG.model.model_copy(update={"max_length": 128})
    config = with_warm_start(steps=2).model_copy(update={"task": task, "model": model})
    result = ensure_warm_start(config, tmp_path, ignore)
    tokenizer = AutoTokenizer.from_pretrained(result.path)
    assert len(tokenizer) == 3 + len(CountdownCot(task).vocabulary.tokens)
    assert AutoModelForCausalLM.from_pretrained(result.path).config.vocab_size == len(tokenizer)
    text = "so the answer is ( 2 + 4 ) * 3"
    assert len(tokenizer(text)["input_ids"]) == 11
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_task_that_writes_no_solutions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_start, "make_task", lambda _: object())
    with pytest.raises(ScopeError, match=r"task\.name='countdown'.*Set model\.path"):
        ensure_warm_start(CONFIG, tmp_path, ignore)


def test_a_context_too_short_for_the_task_is_refused(tmp_path: Path) -> None:
    short = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"max_length": 16})})
    with pytest.raises(ScopeError, match=r"model\.max_length=16 is shorter .* use at least \d+"):
        ensure_warm_start(short, tmp_path, ignore)


def test_a_cache_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ScopeError, match=r"warm_start\.cache_dir.*writable directory"):
        ensure_warm_start(CONFIG, tmp_path / "file" / "cache", lambda _: pytest.fail("trained"))


def test_the_checkpoint_loads_in_transformers_with_its_own_untied_head(trained: tuple) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained[0].path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(trained[0].path)
    assert model.config.model_type == "qwen3"
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    written = json.loads((trained[0].path / "config.json").read_text())
    assert written["tie_word_embeddings"] is False


def test_the_ids_of_countdown_s_characters_are_those_of_kept_warm_starts() -> None:
    tokenizer = build_tokenizer(Countdown.vocabulary, 64)
    assert tokenizer("0123456789+-*()=: ")["input_ids"] == list(range(3, 21))
    assert tokenizer("<pad><eos><unk>x")["input_ids"] == [0, 1, 2, 2]
    assert len(tokenizer) == 21


@settings(deadline=None)
@given(st.text(ALPHABET, min_size=1, max_size=30))
def test_the_tokenizer_gives_one_token_a_character_and_the_text_back(text: str) -> None:
    tokenizer = build_tokenizer(Countdown.vocabulary, 64)
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_the_saved_tokenizer_reads_as_the_built_one(trained: tuple) -> None:
    saved, built = AutoTokenizer.from_pretrained(trained[0].path), build_tokenizer(Countdown.vocabulary, 40)
    for text in ("3 7 12=27:(3+7)*12<eos>", "x\n<pad>é", ALPHABET):
        assert saved(text)["input_ids"] == built(text)["input_ids"]
        assert saved.decode(saved(text)["input_ids"]) == built.decode(built(text)["input_ids"])


def test_the_probe_samples_from_the_model_it_is_given(trained: tuple) -> None:
    """Entropies computed with left padding and a cache equal those of one plain forward pass over each row."""
    model = AutoModelForCausalLM.from_pretrained(trained[0].path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(trained[0].path)
    prompts = [tokenizer.encode(text) for text in ["1 2 3=6:", "4 5 6=26:", "1 1 1=1:"] * 4]
    ends = (tokenizer.eos_token_id,)
    drawn = sample(model, prompts, ends, max_new_tokens=12, generator=torch.Generator().manual_seed(2))
    for row, prompt in enumerate(prompts):
        length = int(drawn.lengths[row])
        ids = torch.tensor([[*prompt, *drawn.tokens[row, :length].tolist()]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -length - 1 : -1]
        torch.testing.assert_close(drawn.entropy[row, :length], entropy_of_logits(logits), atol=1e-4, rtol=0)
        assert not drawn.entropy[row, length:].any()
        ended = drawn.tokens[row, :length] == tokenizer.eos_token_id
        assert bool(drawn.ended[row]) == bool(ended[-1])
        assert not ended[:-1].any()


def test_the_probe_draws_tokens_with_the_model_s_probabilities() -> None:
    tokenizer = build_tokenizer(Countdown.vocabulary, 40)
    model = build_model(CONFIG.model, tokenizer, seed=1)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
        expected = model(**tokenizer("1 2 3=6:", return_tensors="pt")).logits[0, -1].softmax(-1)
    draws = 4000
    drawn = sample(
        model,
        [tokenizer.encode("1 2 3=6:")] * draws,
        (1,),
        max_new_tokens=1,
        generator=torch.Generator().manual_seed(0),
    )
    seen = torch.bincount(drawn.tokens[:, 0], minlength=len(tokenizer)) / draws
    error = 5 * (expected * (1 - expected) / draws).sqrt() + 1e-4
    assert ((seen - expected).abs() < error).all()


def test_the_built_in_model_has_the_promised_size() -> None:
    model = build_model(ModelConfig(), build_tokenizer(Countdown.vocabulary, 64), seed=0)
    assert 500_000 <= sum(p.numel() for p in model.parameters()) <= 1_000_000
