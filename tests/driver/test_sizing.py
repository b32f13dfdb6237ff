"""The sizing model against cases computed by hand, transformers' parameter count, and measurements."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

from services.checks.sizing import (
    DEVICES,
    activation_bytes,
    checkpoint_bytes,
    decode_tokens_per_second,
    generator_memory,
    head_bytes,
    model_shape,
    queue_bytes,
    rank_memory,
    sequences_at_once,
    train_tokens_per_second,
)
from tests.support.repository import ROOT
from trainer.config import RunConfig
from trainer.errors import ScopeError

RESULTS = ROOT / "benchmarks" / "results"
PERFORMANCE = ROOT / "docs" / "explanation" / "performance.md"
SIZES: dict[str, Any] = {
    "hidden_size": 100,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 300,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
LAYER = 100 * 10 * 2 * 6 + 3 * 100 * 300 + 2 * 100 + 2 * 10
COUNT = 2 * 1000 * 100 + 2 * LAYER + 100


def config(**blocks: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(blocks)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_parameters_are_those_that_transformers_counts(tied):
    document = SIZES | {"tie_word_embeddings": tied}
    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**document))
    assert model_shape(document).parameters == sum(p.numel() for p in model.parameters())
    assert model_shape(document).parameters == COUNT - 100_000 * tied


@pytest.mark.parametrize(
    ("stage", "precision", "weights", "gradients"),
    [(1, "fp32", 4, 4), (2, "fp32", 4, 2), (2, "bf16", 2, 1), (3, "bf16", 1, 1)],
)
def test_zero_stages_share_out_what_they_say(stage, precision, weights, gradients):
    """Two ranks, in bytes per parameter. Every stage halves the optimizer's 12."""
    memory = rank_memory(
        model_shape(SIZES), config(learner={"workers": 2, "zero_stage": stage, "precision": precision})
    )
    assert memory.weights == COUNT * weights
    assert memory.gradients == COUNT * gradients
    assert memory.optimizer == COUNT * 6
    assert memory.loading == COUNT * 4
    assert memory.gathered == (2 * 2 * LAYER if stage == 3 else 0)


@pytest.mark.parametrize(
    ("offload", "weights", "optimizer", "host"), [("none", 1, 6, 0), ("optimizer", 1, 0, 6), ("all", 0, 0, 7)]
)
def test_what_is_offloaded_moves_to_the_host(offload, weights, optimizer, host):
    """ZeRO-3 in bf16 on two ranks, in bytes per parameter."""
    learner = {"workers": 2, "zero_stage": 3, "precision": "bf16", "offload": offload}
    memory = rank_memory(model_shape(SIZES), config(learner=learner))
    assert memory.weights == COUNT * weights
    assert memory.optimizer == COUNT * optimizer
    assert memory.offloaded == COUNT * host
    assert memory.gathered == 2 * 2 * LAYER


def test_activations_by_hand():
    """bf16: 2 bytes times (6 D + (2 (H + 2 KV) + H) hd + 4 F) per token and layer; checkpointed: D a layer, 1 layer"""
    inside = 2 * (6 * 100 + (2 * 8 + 4) * 10 + 4 * 300)
    shape = model_shape(SIZES)
    assert activation_bytes(shape, 7, 2, checkpointing=False) == 7 * 2 * inside
    assert activation_bytes(shape, 7, 2, checkpointing=True) == 7 * (2 * 200 + inside)


def test_key_values_and_engine_weights_are_split_over_tensor_parallel_devices():
    generators = {"dtype": "bfloat16", "tensor_parallel": 2, "gpus_per_generator": 2, "max_sequences": 3}
    memory = generator_memory(model_shape(SIZES), config(generators=generators, model={"max_length": 50}))
    assert memory.weights == COUNT
    assert memory.key_value_token == 2 * 2 * 2 * 10 * 2 // 2
    assert memory.key_values_wanted == 3 * 50 * 80


def test_queue_bytes_are_groups_times_their_estimate_and_capped():
    run = config(checkpoint={"every_steps": 2}, pipeline={"max_staleness": 3})
    groups = run.groups_per_step * run.group_bytes_estimate
    assert queue_bytes(run) == (4 * groups, 4 * groups)


def test_speeds_follow_the_roofline():
    """Decoding a few sequences is bound by memory bandwidth; training by arithmetic, ranks and recomputation."""
    shape = model_shape(SIZES)
    one = config(generators={"dtype": "bfloat16", "max_sequences": 1}, model={"max_length": 50})
    device = DEVICES["h100"]
    read = COUNT * 2 + 25 * 160
    assert decode_tokens_per_second(shape, one, device) == pytest.approx(0.5 * device.bandwidth / read)
    assert sequences_at_once(shape, one, device) == 1
    slow = train_tokens_per_second(shape, one, device)
    two = config(learner={"workers": 2})
    again = config(learner={"gradient_checkpointing": True})
    assert train_tokens_per_second(shape, two, device) == pytest.approx(2 * slow)
    assert train_tokens_per_second(shape, again, device) < slow


def test_a_checkpoint_is_as_large_as_the_one_that_was_measured():
    """64 million parameters in float32 under ZeRO-2, measured by `benchmarks/checkpoint.py`."""
    measured = json.loads((RESULTS / "checkpoint.json").read_text())
    document = SIZES | {
        "hidden_size": 768,
        "num_hidden_layers": 9,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
        "head_dim": 64,
        "intermediate_size": 2048,
        "vocab_size": 64,
    }
    shape = model_shape(document)
    assert shape.parameters == measured["parameters"]
    assert checkpoint_bytes(shape, config()) == pytest.approx(measured["checkpoint_bytes"], rel=0.01)


def test_the_fused_head_takes_what_was_measured():
    """Measured by `benchmarks/performance/head.py`."""
    measured = json.loads((RESULTS / "head.json").read_text())
    shape = model_shape(SIZES | {"hidden_size": measured["hidden"], "vocab_size": measured["vocabulary"]})
    memory = measured["memory"]
    assert head_bytes(shape, config(), memory["tokens"]) == pytest.approx(memory["fused_bytes"], rel=0.25)
    plain = config(learner={"fused_head": "off", "logit_chunk_tokens": memory["tokens"]})
    assert head_bytes(shape, plain, memory["tokens"]) == pytest.approx(memory["eager_bytes"], rel=0.25)


def test_models_that_the_arithmetic_does_not_cover_are_refused():
    with pytest.raises(ScopeError, match="mixture of experts"):
        model_shape(SIZES | {"num_experts": 8})
    with pytest.raises(ScopeError, match="intermediate_size"):
        model_shape({name: size for name, size in SIZES.items() if name != "intermediate_size"})


def test_the_sizing_table_of_the_performance_page_is_the_arithmetics():
    script = RESULTS.parent / "performance" / "sizing.py"
    printed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    assert printed.strip() in PERFORMANCE.read_text(), f"run {script}"


def test_adapters_are_all_that_is_trained_with_them():
    """Compared with peft's own count, for a layer's seven matrices."""
    lora = config(learner={"lora": {"rank": 3}, "precision": "bf16"})
    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES))
        adapted: Any = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    shape = model_shape(SIZES)
    assert shape.adapter_parameters(3) == trained
    memory = rank_memory(shape, lora)
    assert (memory.weights, memory.gradients, memory.optimizer) == (COUNT * 2, trained * 2, trained * 12)
    assert checkpoint_bytes(shape, lora) == trained * 14
    full = config(learner={"precision": "bf16"})
    assert head_bytes(shape, full, 10) - head_bytes(shape, lora, 10) == 2 * shape.head_parameters


def test_estimates_are_near_what_an_h100_took():
    """1.5 billion parameters, speed and peak memory of plain ZeRO-2 by `benchmarks/performance/learner_gpu.py`."""
    document = json.loads((RESULTS / "learner-gpu.json").read_text())
    (case,) = [case for case in document["cases"] if case["way"] == "token budget"]
    assert case["tokens_per_second"] == pytest.approx(case["estimated_tokens_per_second"], rel=0.15)
    assert case["peak_bytes"] == pytest.approx(case["estimated_bytes"], rel=0.15)
