"""The GPUs that each engine of `scope eval` sees, and the error when there are too few."""

from __future__ import annotations

import pytest
import torch

from services.evaluation.devices import share_devices, visible_devices
from trainer.config import GeneratorConfig
from trainer.errors import ScopeError

GPUS = ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("engines", "config", "visible", "shares"),
    [
        (3, {}, [], [(), (), ()]),
        (2, {}, GPUS, [("0",), ("1",)]),
        (2, {"gpus_per_generator": 1}, ["5", "GPU-a1"], [("5",), ("GPU-a1",)]),
        (2, {"gpus_per_generator": 2, "tensor_parallel": 2}, GPUS, [("0", "1"), ("2", "3")]),
        (1, {"gpus_per_generator": 3, "tensor_parallel": 3}, GPUS, [("0", "1", "2")]),
        (2, {"gpus_per_generator": 0.5}, GPUS, [("0",), ("1",)]),
        (3, {"gpus_per_generator": 0.5}, ["0", "1"], [("0",), ("1",), ("0",)]),
        (10, {"gpus_per_generator": 0.1}, ["7"], [("7",)] * 10),
    ],
)
def test_each_engine_has_its_own_devices_unless_it_asks_for_a_fraction(engines, config, visible, shares):
    assert share_devices(engines, GeneratorConfig.model_validate(config), visible) == shares


@pytest.mark.parametrize(
    ("engines", "config", "visible", "words"),
    [
        (1, {"gpus_per_generator": 1}, [], r"gpus_per_generator=1 is not allowed here, only 0: .* no GPU"),
        (5, {}, GPUS, r"--engines=5 is not allowed here: from 1 to 4\. .*tensor_parallel.*0, 1, 2, 3"),
        (
            3,
            {"gpus_per_generator": 2, "tensor_parallel": 2},
            GPUS,
            r"--engines=3 is not allowed here: from 1 to 2\. An engine takes 2 GPU",
        ),
        (3, {"gpus_per_generator": 0.5}, ["0"], r"--engines=3 .* from 1 to 2\. .*0\.5 of a GPU"),
        (
            1,
            {"gpus_per_generator": 4, "tensor_parallel": 4},
            ["2", "3"],
            r"tensor_parallel=4 is not allowed here: from 1 to 2, .* \(2, 3\)",
        ),
    ],
)
def test_too_few_devices_are_refused_with_what_is_allowed(engines, config, visible, words):
    with pytest.raises(ScopeError, match=words):
        share_devices(engines, GeneratorConfig.model_validate(config), visible)


@pytest.mark.parametrize(
    ("variable", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("3, GPU-a1", 2, ["3", "GPU-a1"]),
        ("1,9,0", 1, ["1"]),  # CUDA ignores everything from the first missing device on
        ("", 0, []),
        ("-1", 0, []),
    ],
)
def test_visible_devices_keep_the_names_that_they_were_given(monkeypatch, variable, count, names):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_devices() == names
