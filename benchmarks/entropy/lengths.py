"""How surprisal weights depend on the length of answers, for each `entropy_control.surprisal`.

    .venv/bin/python benchmarks/entropy/lengths.py

Lengths are lognormal (sigma 0.5, median 55 tokens), surprisal is 0.3 ± 0.06 nats a token by answer, and within one
most tokens are certain: their surprisal is exponential. Prints the mean length of what is learned from relative to the
plain mean, and the effective share of the samples; writes benchmarks/results/entropy-lengths.json.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import study
import torch

from trainer.config import EntropyControlConfig
from trainer.loss.auxiliary_pool import auxiliary_pool, pool_sums
from trainer.rollouts.batch import RolloutBatch

ANSWERS, PROMPTS = 4096, 512
KINDS = ("answer", "answer_mean", "prompt", "token")
EXPONENTS = (0.5, 1.0, 2.0, 3.0)


def answers(seed: int) -> tuple[RolloutBatch, torch.Tensor]:
    """Positives of one step, and their log-probabilities, float64[N, T], nats."""
    rng = np.random.default_rng(seed)
    lengths = np.maximum(1, np.exp(rng.normal(4, 0.5, ANSWERS)).round()).astype(int)
    means = rng.normal(0.3, 0.06, ANSWERS).clip(0.05)
    mask = np.arange(lengths.max()) < lengths[:, None]
    drawn = rng.exponential(1.0, mask.shape) * mask
    surprisal = drawn * (means * lengths / drawn.sum(1))[:, None]
    rows, one = len(mask), torch.ones(len(mask))
    tokens = torch.zeros(mask.shape, dtype=torch.int64)
    logprobs = torch.from_numpy(-surprisal)
    batch = RolloutBatch(
        input_ids=tokens,
        prompt_lengths=torch.ones(rows, dtype=torch.int64),
        targets=tokens,
        mask=torch.from_numpy(mask).double(),
        behaviour_logprobs=logprobs,
        temperature=one,
        sampling_temperature=one,
        advantages=0 * one,
        grouped=torch.zeros(rows, dtype=torch.bool),
        auxiliary_advantages=one,
        rewards=one,
        positive=one,
        auxiliary=torch.ones(rows, dtype=torch.bool),
        minibatch=torch.zeros(rows, dtype=torch.int64),
        slot=torch.arange(rows) % PROMPTS,
    )
    return batch, logprobs


def main() -> None:
    """Print and write the table."""
    batch, logprobs = answers(0)
    rows: list[dict[str, Any]] = []
    print(f"{'surprisal':12} {'rho':>4} {'length':>7} {'effective share':>16}")
    for kind in KINDS:
        for rho in EXPONENTS:
            pool = auxiliary_pool(batch, logprobs, rho, EntropyControlConfig(surprisal=kind))
            sums = pool_sums(batch, pool)
            row = {
                "surprisal": kind,
                "rho": rho,
                "length": sums.weighted_length / sums.mean_length,
                "effective_share": sums.effective / ANSWERS,
            }
            rows.append(row)
            print(f"{kind:12} {rho:4.1f} {row['length']:7.2f} {row['effective_share']:16.0%}")
    study.keep("lengths", {"rows": rows, "made_by": sys.argv})


if __name__ == "__main__":
    main()
