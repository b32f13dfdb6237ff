"""Training options on two real ranks and on a GPU: reference policy, adapters, offloading, learning-rate schedules."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from services.results.export import export
from services.run.directory import write_format
from tests.support.distributed.learner_ranks import PLACES, launch, result, weights, write_groups
from tests.support.distributed.plain_learner import OPTIMIZER, STEPS, any_length, configuration, make_groups
from trainer.checkpoint.store import ENGINE_TAG, MANIFEST, PREFIX, Manifest
from trainer.config import OptimizerConfig
from trainer.config.load import default_config, dump_yaml, validate_config
from trainer.errors import ScopeError
from trainer.learner.learning_rate import learning_rate
from trainer.loss.objective import LossInputs, kl_k3, scope_loss
from trainer.starting_model.tiny_model import build_tokenizer
from trainer.tasks import Vocabulary

LORA = {"lora": {"rank": 4, "alpha": 8.0}}
OFFLOAD = {"offload": "optimizer", "collective_timeout_seconds": 7777.0}
KL = {"reference": "start", "kl_coefficient": 5.0}


@pytest.fixture(scope="module", params=PLACES[1:])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    """All cases on two ranks, and on a GPU."""
    world, backend = request.param
    work = tmp_path_factory.mktemp("options")
    tokenizer: PreTrainedTokenizerFast = build_tokenizer(Vocabulary(tuple("abcdef"), split="characters"), 32)
    tokenizer.save_pretrained(model_dir)
    groups = write_groups(work / "groups.bin", make_groups(model_dir, noise=0.2, lengths=any_length))

    def case(name: str, stage: int, *, loss: Any = None, learner: Any = None, **more: Any) -> dict[str, Any]:
        config = configuration(world, stage, learner=learner or {})
        config["loss"] |= loss or {}
        defaults = {"steps": STEPS, "alpha": 0.7, "surprisal_exponent": 1.0, "strength": 0.0}
        return {"name": name, "config": config, "groups": groups} | defaults | more

    return launch(
        work,
        world,
        model_dir,
        [
            case("plain", 2, steps=3),
            case("watched", 2, loss={"reference": "start"}, steps=3),
            case("k3", 2, loss=KL, steps=3),
            case("k3-stage3", 3, loss=KL, learner={"offload": "all"}, steps=3, export="exported-whole"),
            case("k3-tokens", 3, loss=KL, learner={"micro_batching": "tokens"}, steps=3),
            case("k1", 2, loss=KL | {"kl_estimator": "k1"}, steps=3),
            case("epochs", 2, loss={"epochs": 2}, steps=1),
            case("lora", 2, loss=KL, learner=LORA, **{"continue": True, "export": "exported"}),
            case("lora-stage3", 3, loss=KL, learner=LORA, **{"continue": True, "export": "exported-stage3"}),
            case("lora-low", 2, learner=LORA | {"precision": "bf16"}, **{"continue": True}),
            case("offload", 1, learner=OFFLOAD, steps=3),
        ],
        backend,
    )


def metrics(runs: Path, name: str) -> list[dict[str, Any]]:
    return result(runs, name)["metrics"]


def assert_same_weights(runs: Path, name: str, other: str, *, atol: float) -> None:
    for tensor, value in weights(runs, other).items():
        torch.testing.assert_close(weights(runs, name)[tensor], value, rtol=0, atol=atol)


def test_a_reference_that_is_only_watched_changes_no_weight(runs: Path) -> None:
    before, after = weights(runs, "plain"), weights(runs, "watched")
    assert all(torch.equal(before[name], after[name]) for name in before)
    first, second, _ = metrics(runs, "watched")
    assert abs(first["reference_kl"]) < 1e-9
    assert second["reference_kl"] > 1e-4
    assert metrics(runs, "plain")[1]["reference_kl"] is None


@pytest.mark.parametrize("name", ["k3", "k1"])
def test_a_kl_coefficient_keeps_the_policy_nearer_to_its_start(runs: Path, name: str) -> None:
    assert metrics(runs, name)[2]["reference_kl"] < 0.9 * metrics(runs, "watched")[2]["reference_kl"]


def test_zero_3_with_everything_offloaded_and_a_reference_trains_like_zero_2(runs: Path) -> None:
    assert_same_weights(runs, "k3-stage3", "k3", atol=3e-6)
    for got, want in zip(metrics(runs, "k3-stage3"), metrics(runs, "k3"), strict=True):
        assert got["reference_kl"] == pytest.approx(want["reference_kl"], rel=1e-4, abs=1e-8)


def test_a_reference_is_measured_within_a_token_budget_on_ranks_of_unequal_passes(runs: Path) -> None:
    assert_same_weights(runs, "k3-tokens", "k3", atol=3e-6)
    for got, want in zip(metrics(runs, "k3-tokens"), metrics(runs, "k3"), strict=True):
        assert got["reference_kl"] == pytest.approx(want["reference_kl"], rel=1e-4, abs=1e-8)


def test_collective_calls_of_the_engine_have_the_configured_timeout(runs: Path) -> None:
    assert result(runs, "offload")["collective_timeout"] == 7777
    assert result(runs, "plain")["collective_timeout"] == 1800


def test_an_offloaded_optimizer_trains_like_one_on_the_device(runs: Path) -> None:
    assert_same_weights(runs, "offload", "plain", atol=3e-6)


def test_a_second_epoch_moves_the_weights_on_within_the_step(runs: Path) -> None:
    (epochs,) = metrics(runs, "epochs")
    assert epochs["entropy"] == metrics(runs, "plain")[0]["entropy"]
    assert epochs["surrogate"] > metrics(runs, "plain")[0]["surrogate"]


@pytest.mark.parametrize("name", ["lora", "lora-stage3"])
def test_adapters_are_trained_and_the_weights_below_them_are_not(
    runs: Path, model_dir: Path, name: str
) -> None:
    start = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).state_dict()
    merged = weights(runs, name)
    assert merged.keys() == start.keys()
    moved = {tensor for tensor in start if not torch.equal(start[tensor], merged[tensor])}
    assert moved == {tensor for tensor in start if "_proj" in tensor}
    adapter = safetensors.torch.load_file(runs / "exported" / "adapter" / "adapter_model.safetensors")
    for tensor in moved if name == "lora" else ():
        path = f"base_model.model.{tensor.removesuffix('.weight')}"
        change = LORA["lora"]["alpha"] / LORA["lora"]["rank"]
        change = change * (adapter[f"{path}.lora_B.weight"] @ adapter[f"{path}.lora_A.weight"])
        torch.testing.assert_close(merged[tensor] - change, start[tensor], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["lora", "lora-stage3"])
def test_adapters_off_are_the_reference(runs: Path, name: str) -> None:
    first, second = metrics(runs, name)
    assert abs(first["reference_kl"]) < 1e-9
    assert second["reference_kl"] > 1e-6


@pytest.mark.parametrize("name", ["lora", "lora-stage3"])
def test_restored_adapters_continue_bit_for_bit(runs: Path, name: str) -> None:
    one, other = weights(runs, f"{name}-continued"), weights(runs, f"{name}-restored")
    assert all(torch.equal(one[tensor], other[tensor]) for tensor in one)
    assert any(not torch.equal(one[tensor], weights(runs, name)[tensor]) for tensor in one)
    (continued,), (restored,) = result(runs, name)["continued"], result(runs, name)["restored"]
    assert continued["reference_kl"] == restored["reference_kl"]


def test_a_checkpoint_of_adapters_leaves_out_what_is_frozen(runs: Path) -> None:
    def size(name: str) -> int:
        return sum(file.stat().st_size for file in (runs / name / "kept").glob("mp_rank_*"))

    whole = sum(value.nbytes for value in weights(runs, "lora").values())
    assert 0 < size("lora") < whole / 2


@pytest.mark.parametrize(("name", "folder"), [("lora", "exported"), ("lora-stage3", "exported-stage3")])
def test_an_exported_model_has_the_adapters_merged_and_beside_it(
    runs: Path, model_dir: Path, name: str, folder: str
) -> None:
    import peft

    merged = AutoModelForCausalLM.from_pretrained(runs / folder, dtype=torch.float32)
    start = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    beside = peft.PeftModel.from_pretrained(start, runs / folder / "adapter")
    for model in (merged, beside):
        assert_says_what_the_policy_said(model, runs, name)


@pytest.mark.parametrize("name", ["lora", "lora-stage3", "lora-low"])
def test_an_exported_checkpoint_of_adapters_is_the_policy_that_the_learner_had(
    runs: Path, model_dir: Path, tmp_path: Path, name: str
) -> None:
    import peft

    learner = LORA | ({"precision": "bf16"} if name == "lora-low" else {})
    tree = configuration(1, 3 if name == "lora-stage3" else 2, learner=learner)
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / f"{PREFIX}{STEPS:08d}"
    shutil.copytree(runs / name / "kept", checkpoint / ENGINE_TAG)
    (checkpoint / MANIFEST).write_bytes(msgspec.json.encode(Manifest(STEPS, {})))
    config = validate_config(tree | {"model": {"path": str(model_dir)}})
    (run / "config.yaml").write_text(dump_yaml(config))
    write_format(run)
    export(run, STEPS, tmp_path / "out")
    policy = weights(runs, name)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert exported.keys() == policy.keys()
    assert all(torch.equal(exported[tensor], policy[tensor]) for tensor in policy)
    start = AutoModelForCausalLM.from_pretrained(model_dir, dtype=exported["lm_head.weight"].dtype)
    assert any(not torch.equal(value, exported[tensor]) for tensor, value in start.state_dict().items())
    if name == "lora":
        beside = peft.PeftModel.from_pretrained(start, tmp_path / "out" / "adapter")
        assert_says_what_the_policy_said(beside, runs, name)
    (run / "config.yaml").write_text(dump_yaml(validate_config(tree | {"model": {"path": "/gone"}})))
    with pytest.raises(ScopeError, match=r"/gone, the run's starting model, is gone, and its weights are"):
        export(run, STEPS, tmp_path / "another")


def test_a_policy_in_parts_on_ranks_and_host_is_exported_whole(runs: Path) -> None:
    """ZeRO-3 with everything offloaded."""
    exported = AutoModelForCausalLM.from_pretrained(runs / "exported-whole", dtype=torch.float32)
    assert_says_what_the_policy_said(exported, runs, "k3-stage3")
    assert exported.state_dict().keys() == weights(runs, "k3-stage3").keys()


def assert_says_what_the_policy_said(model: Any, runs: Path, name: str) -> None:
    """Compare the model's log-probabilities of the probe's tokens with the learner's."""
    tokens, expected = result(runs, name)["probe"]
    ids = torch.tensor([tokens])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    chosen = logprobs.gather(-1, ids[0, 1:, None])[:, 0]
    torch.testing.assert_close(chosen, torch.tensor(expected), rtol=0, atol=1e-5)


def test_metrics_hold_the_learning_rate_in_force(runs: Path) -> None:
    rates = [step["learning_rate"] for step in metrics(runs, "plain")]
    assert rates == [OPTIMIZER["learning_rate"] / 2] + 2 * [OPTIMIZER["learning_rate"]]


def test_the_k3_term_has_the_gradient_of_its_formula() -> None:
    logprobs = torch.tensor([[-1.0, -0.5, -2.0]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[-0.7, -0.9, -2.0]], dtype=torch.float64)
    ones = torch.ones(1, 3, dtype=torch.float64)
    none = torch.zeros(1, dtype=torch.float64)
    inputs = LossInputs(
        logprobs=logprobs,
        proximal_logprobs=logprobs.detach(),
        behaviour_logprobs=logprobs.detach(),
        mask=ones,
        advantages=ones,
        base_weight=none,
        auxiliary_weight=none,
        reference=reference,
        kl_weight=torch.ones(1, dtype=torch.float64),
    )
    loss = scope_loss(inputs, alpha=0.0, clip_low=0.2, clip_high=0.2, tis_cap=2.0, kl_coefficient=0.3).loss
    (gradient,) = torch.autograd.grad(loss, logprobs)
    expected = 0.3 * (1 - (reference - logprobs).exp()) / 3
    torch.testing.assert_close(gradient, expected.detach())
    assert float(loss.detach()) == pytest.approx(0.3 * float(kl_k3(logprobs.detach(), reference).mean()))


@given(
    st.sampled_from(["constant", "linear", "cosine"]),
    st.integers(0, 20),
    st.integers(1, 200),
    st.floats(0, 1),
)
def test_a_schedule_rises_to_the_rate_then_falls_to_its_end_and_stays(
    schedule: str, warmup: int, length: int, share: float
) -> None:
    end = warmup + length
    config = OptimizerConfig.model_validate(
        {
            "learning_rate": 1e-3,
            "warmup_steps": warmup,
            "schedule": schedule,
            "decay_steps": end,
            "final_share": share,
        }
    )
    rates = [learning_rate(config, step, 1) for step in range(end + 5)]
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup] == pytest.approx(1e-3)
    assert all(a >= b - 1e-12 for a, b in zip(rates[warmup:], rates[warmup + 1 :], strict=False))
    last = 1e-3 * (1.0 if schedule == "constant" else share)
    assert rates[end:] == pytest.approx([last] * 5)


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        (["loss.kl_coefficient=0.1"], "loss.reference"),
        (["learner.offload=all"], "learner.zero_stage"),
        (["optimizer.schedule=cosine", "optimizer.warmup_steps=160"], "optimizer.warmup_steps"),
    ],
    ids=["kl without reference", "offload without zero 3", "warm-up longer than the schedule"],
)
def test_options_that_contradict_each_other_are_refused(overrides: list[str], field: str) -> None:
    with pytest.raises(ScopeError, match=field):
        default_config(overrides)
