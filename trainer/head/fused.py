"""Log-probabilities and entropy from hidden states and output matrix, without storing the logits.

Logits exist for one block of tokens and vocabulary at a time. The forward pass adds each block to running sums (online
softmax: Milakov and Gimelshein, arXiv 1805.02867); the backward pass recomputes it and adds its gradient to those of
the hidden states and the matrix (Wijmans et al., arXiv 2411.09009). Between the two, a few numbers per token are kept.

`trainer.head.logprobs` is the plain path, used for small vocabularies.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainer.head import blocks as head_blocks
from trainer.head.blocks import Slopes, Sums
from trainer.head.limits import CPU_FUSED_ROWS, DEVICE_FUSED_ROWS, FUSED_COLUMNS


class FusedHead(nn.Linear):
    """An output head that returns log-probabilities and entropy of given targets, or logits without targets.

    It replaces the model's head and shares its parameters, so that parameter names, tied embeddings and the hooks of
    ZeRO-3 still work. A forward pass is one call, so ZeRO-3 gathers the matrix once for any number of tokens.
    """

    def __init__(self, head: nn.Linear, block_rows: int) -> None:
        super().__init__(1, 1, bias=False, device="meta")
        self.in_features, self.out_features = head.in_features, head.out_features
        self.weight, self.bias = head.weight, head.bias
        self._block_rows = block_rows
        self.train(head.training)

    def forward(
        self,
        hidden: Tensor,
        targets: Tensor | None = None,
        temperature: Tensor | None = None,
        with_entropy: bool = False,
        entropy_gradient: bool = False,
    ) -> Any:
        """hidden [..., D] -> logits [..., V]; with targets, the result of `fused_logprobs`."""
        if targets is None or temperature is None:
            return super().forward(hidden)
        return fused_logprobs(
            hidden,
            self.weight,
            self.bias,
            targets,
            temperature,
            with_entropy=with_entropy,
            entropy_gradient=entropy_gradient,
            block_rows=self._block_rows,
        )


def fused_logprobs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    temperature: Tensor,
    *,
    with_entropy: bool,
    entropy_gradient: bool = False,
    block_rows: int | None = None,
    block_columns: int = FUSED_COLUMNS,
    kernels: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of `targets` at `temperature`, and the exact entropy at temperature 1.

    hidden: [T, D]; weight: [V, D]; bias: [V]; targets: int64[T]; temperature: float[T], per token, or float[T, K] for
    K log-probabilities of each token from the same logits; block_rows, block_columns: size of a block of logits, at
    most; kernels: use Triton (None: on GPUs, in float32).
    Returns (logprobs float[T] or float[T, K] in nats, at most 0, differentiable in hidden, weight and bias; entropy
    float[T] in nats, zeros unless `with_entropy`, differentiable only with `entropy_gradient`). Both are float32, or
    wider if the hidden states are; logits of narrower hidden states are accumulated in float32.
    """
    width = torch.promote_types(hidden.dtype, torch.float32)
    usual = CPU_FUSED_ROWS if hidden.device.type == "cpu" else DEVICE_FUSED_ROWS
    kernels = hidden.is_cuda and width == torch.float32 if kernels is None else kernels
    blocks = _Blocks(min(usual, block_rows or usual), block_columns, _work(kernels))
    columns = temperature.unsqueeze(-1) if temperature.dim() == 1 else temperature
    logprobs, entropy = _Measure.apply(  # pyright: ignore[reportGeneralTypeIssues]
        hidden, weight, bias, targets, columns.to(width), with_entropy, entropy_gradient, blocks
    )
    return logprobs.squeeze(-1) if temperature.dim() == 1 else logprobs, entropy


class _Blocks(NamedTuple):
    """The division of the logits into blocks, and the module that computes them."""

    rows: int
    columns: int
    work: ModuleType

    def of_tokens(self, count: int) -> list[slice]:
        return [slice(i, min(i + self.rows, count)) for i in range(0, count, self.rows)]

    def of_vocabulary(self, size: int) -> list[slice]:
        return [slice(i, min(i + self.columns, size)) for i in range(0, size, self.columns)]


class _Measure(torch.autograd.Function):
    """Loops over the vocabulary outside and tokens inside: each block of the matrix is read and widened once."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: Tensor,
        with_entropy: bool,
        entropy_gradient: bool,
        blocks: _Blocks,
    ) -> tuple[Tensor, Tensor]:
        scales, units = temperature.T, (temperature == 1).all(0).tolist()
        # The entropy needs the sum at temperature 1: an existing column, or an additional one.
        if with_entropy and not any(units):
            scales = torch.cat([scales, torch.ones_like(scales[:1])])
            units.append(True)
        top = torch.full_like(scales[0], torch.finfo(temperature.dtype).min)
        sums = Sums(
            targets=targets,
            scales=scales.contiguous(),
            units=units,
            at_one=units.index(True) if with_entropy else None,
            top=top,
            chosen=torch.zeros_like(top),
            moment=torch.zeros_like(top),
            totals=torch.zeros_like(scales, memory_format=torch.contiguous_format),
        )
        for part in blocks.of_vocabulary(len(weight)):
            matrix, offset = _operand(weight[part]), None if bias is None else bias[part]
            for rows in blocks.of_tokens(len(hidden)):
                blocks.work.fold(sums, rows, _logits(hidden[rows], matrix, offset), part.start)
        log_sums = sums.totals.log()
        # Both terms are at most 0.
        logprobs = (sums.chosen - top).unsqueeze(-1) / temperature - log_sums[: temperature.shape[1]].T
        entropy = torch.zeros_like(top)
        if sums.at_one is not None:
            entropy = (log_sums[sums.at_one] - sums.moment / sums.totals[sums.at_one]).clamp_(min=0)
        ctx.save_for_backward(hidden, weight, bias, targets, temperature, sums.scales, top, log_sums, entropy)
        ctx.blocks, ctx.units, ctx.at_one = blocks, units, sums.at_one
        ctx.entropy_gradient = with_entropy and entropy_gradient
        if not ctx.entropy_gradient:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, logprob_slopes: Tensor, entropy_slopes: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, temperature, scales, top, log_sums, entropy = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wide = temperature.dtype
        of = Slopes(
            targets=targets,
            scales=scales,
            units=ctx.units,
            at_one=ctx.at_one,
            top=top,
            log_sums=log_sums,
            pulls=(logprob_slopes / temperature).T.contiguous(),
            entropy=entropy,
            entropy_slopes=entropy_slopes.contiguous() if ctx.entropy_gradient else None,
        )
        d_hidden = torch.zeros_like(hidden, dtype=wide) if wants_hidden else None
        d_weight = torch.empty_like(weight) if wants_weight else None
        d_bias = torch.empty_like(bias) if wants_bias else None
        for part in ctx.blocks.of_vocabulary(len(weight)):
            matrix, offset = _operand(weight[part]), None if bias is None else bias[part]
            block, offsets = torch.zeros_like(matrix, dtype=wide), top.new_zeros(len(matrix))
            for rows in ctx.blocks.of_tokens(len(hidden)):
                logits = _logits(hidden[rows], matrix, offset)
                change = ctx.blocks.work.slopes(of, rows, logits, part.start, matrix.dtype)
                if d_hidden is not None:
                    _add_product(d_hidden[rows], change, matrix)
                if wants_weight:
                    _add_product(block, change.T, _operand(hidden[rows]))
                if wants_bias:
                    offsets += change.sum(0, dtype=wide)
            if d_weight is not None:
                d_weight[part] = block
            if d_bias is not None:
                d_bias[part] = offsets
        return None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight, d_bias, *[None] * 5


def _work(kernels: bool) -> ModuleType:
    if not kernels:
        return head_blocks
    # Only builds of torch for GPUs come with Triton.
    from trainer.head import triton_kernels

    return triton_kernels


def _logits(hidden: Tensor, matrix: Tensor, offset: Tensor | None) -> Tensor:
    logits = _product(_operand(hidden), matrix.T)
    return logits if offset is None else logits.add_(offset)


def _operand(factor: Tensor) -> Tensor:
    """A factor in the type it is multiplied in: on GPUs its own, accumulated in float32; on CPUs float32 or wider."""
    return factor if factor.is_cuda else factor.to(torch.promote_types(factor.dtype, torch.float32))


def _product(left: Tensor, right: Tensor) -> Tensor:
    """[a, b] x [b, c] -> [a, c], accumulated and returned in float32 or wider."""
    if left.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(left, right, out_dtype=torch.float32)
    return left @ right


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += _product(left, right)
