"""Prompt sharing: packs the rollouts of one prompt into one sequence, so that the prompt is computed once.

A packed sequence holds one or more blocks, each a prompt followed by responses to it. A response token attends only to
its prompt and its own response, and its position continues the prompt's, so hidden states equal those of separate
sequences. The last token of a response predicts nothing and is left out; equal responses are packed once.

    prompt a | response a1 | response a2 | prompt b | response b1 | padding
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MAX_PACKED_TOKENS = 1024
"""Longest packed sequence, since attention costs its square; a longer single rollout gets a sequence of its own."""


@dataclass(frozen=True)
class PackedRollouts:
    """B packed sequences of S tokens that hold N rollouts of up to T response tokens."""

    input_ids: Tensor
    """int64[B, S]"""
    positions: Tensor
    """int64[B, S], within prompt and response"""
    attention: Tensor
    """bool[B, 1, S, S], True where the row's token attends to the column's"""
    predictor: Tensor
    """int64[N, T]: index into the B * S flattened hidden states that predict each response token; 0 past its end"""


@dataclass(frozen=True)
class _Block:
    """A prompt and some of its rollouts, by row. tokens: packed length."""

    prompt_row: int
    rows: list[int]
    tokens: int


def pack_rollouts(input_ids: Tensor, prompt_lengths: Tensor, response_lengths: Tensor) -> PackedRollouts:
    """Pack rows; neighbouring rows with the same prompt share it.

    input_ids: int64[N, L], prompt then response, right-padded; prompt_lengths, response_lengths: int64[N], tokens.
    """
    ids = input_ids.cpu().numpy()
    prompts, responses = prompt_lengths.cpu().numpy(), response_lengths.cpu().numpy()
    inputs = np.maximum(responses - 1, 0)
    twins, blocks = np.arange(len(ids)), []
    for start, end in prompt_runs(ids, prompts):
        first: dict[bytes, int] = {}
        for row in range(start, end):
            text = ids[row, prompts[row] : prompts[row] + inputs[row]]
            twins[row] = first.setdefault(text.tobytes(), row)
        rows = list(first.values())
        blocks.append(_Block(start, rows, int(prompts[start] + inputs[rows].sum())))
    longest = int((prompts + inputs).max())
    capacity = max(longest, min(max(b.tokens for b in blocks), MAX_PACKED_TOKENS))
    bins = _first_fit([piece for b in blocks for piece in _split(b, capacity, prompts, inputs)], capacity)
    size = max(sum(b.tokens for b in packed) for packed in bins)
    tokens, positions = np.zeros((2, len(bins), size), np.int64)
    block, response = np.full((2, len(bins), size), -1, np.int64)
    predictor = np.zeros((len(ids), max(int(responses.max()), 1)), np.int64)
    for b, packed in enumerate(bins):
        at = 0
        for number, piece in enumerate(packed):
            prompt = prompts[piece.prompt_row]
            block[b, at : at + piece.tokens] = number
            spans = [(piece.prompt_row, 0, prompt), *((row, prompt, inputs[row]) for row in piece.rows)]
            last = b * size + at + prompt - 1
            for index, (row, begin, n) in enumerate(spans):
                tokens[b, at : at + n] = ids[row, begin : begin + n]
                positions[b, at : at + n] = np.arange(begin, begin + n)
                response[b, at : at + n] = index
                if index:
                    predictor[row, : n + 1] = [last, *range(b * size + at, b * size + at + n)]
                at += n
    device = input_ids.device
    return PackedRollouts(
        input_ids=torch.from_numpy(tokens).to(device),
        positions=torch.from_numpy(positions).to(device),
        attention=_attention(torch.from_numpy(block).to(device), torch.from_numpy(response).to(device)),
        predictor=torch.from_numpy(predictor[twins]).to(device),
    )


def prompt_runs(ids: np.ndarray, prompts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of neighbouring rows with the same prompt: (first, one past the last)."""
    within = np.arange(ids.shape[1]) < prompts[:, None]
    changed = (prompts[1:] != prompts[:-1]) | ((ids[1:] != ids[:-1]) & within[1:]).any(1)
    starts = [0, *(np.flatnonzero(changed) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(ids)], strict=True))


def _split(block: _Block, capacity: int, prompts: np.ndarray, inputs: np.ndarray) -> list[_Block]:
    """The block, or parts of it with at most `capacity` tokens that each repeat the prompt."""
    prompt = int(prompts[block.prompt_row])
    parts: list[list[int]] = [[]]
    used = prompt
    for row in block.rows:
        if parts[-1] and used + inputs[row] > capacity:
            parts.append([])
            used = prompt
        parts[-1].append(row)
        used += int(inputs[row])
    return [_Block(block.prompt_row, rows, prompt + int(inputs[rows].sum())) for rows in parts]


def _first_fit(blocks: list[_Block], capacity: int) -> list[list[_Block]]:
    """Distribute blocks over packed sequences of at most `capacity` tokens, largest block first."""
    bins: list[list[_Block]] = []
    free: list[int] = []
    for block in sorted(blocks, key=lambda b: -b.tokens):
        fit = next((i for i, left in enumerate(free) if left >= block.tokens), len(bins))
        if fit == len(bins):
            bins.append([])
            free.append(capacity)
        bins[fit].append(block)
        free[fit] -= block.tokens
    return bins


def _attention(block: Tensor, response: Tensor) -> Tensor:
    """`PackedRollouts.attention`. block: int64[B, S], -1 for padding; response: int64[B, S], 0 for prompts."""
    size = block.shape[1]
    order = torch.arange(size, device=block.device)
    causal = order[:, None] >= order[None, :]
    together = block[:, :, None] == block[:, None, :]
    visible = (response[:, None, :] == 0) | (response[:, :, None] == response[:, None, :])
    return (causal & together & visible).unsqueeze(1)
