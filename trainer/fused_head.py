"""Log-probabilities and entropy from hidden states and output matrix, without the logits of the whole vocabulary.

The logits exist for a block of tokens and a block of the vocabulary at a time. The forward pass folds each block
into running sums (online softmax: Milakov and Gimelshein, arXiv 1805.02867); the backward pass computes it again and
folds its gradient into those of the hidden states and of the matrix at once (Wijmans et al., arXiv 2411.09009). What
is kept between the two is a few numbers a token.

`trainer.logprobs` is the plain path, which small vocabularies take.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainer.sizing import CPU_FUSED_ROWS, DEVICE_FUSED_ROWS, FUSED_COLUMNS


class FusedHead(nn.Linear):
    """An output head that measures tokens where it is given some, and else gives logits.

    It takes the place of the model's head and shares its parameters, so that their names, tied embeddings and what
    ZeRO-3 does around a module's call stay as they are: all of a forward pass is one call, which gathers the matrix
    once, however many tokens a rank has.
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
        """[..., D] -> logits [..., V]; with targets what `fused_logprobs` returns."""
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
) -> tuple[Tensor, Tensor]:
    """Log-probability of `targets` at `temperature`, and the exact entropy at temperature 1.

    hidden: [T, D]; weight: [V, D]; bias: [V]; targets: int64[T]; temperature: float[T], per token, or float[T, K] for
    K log-probabilities of each token from the same logits; block_rows, block_columns: most tokens and vocabulary
    columns whose logits exist at once.
    Returns (logprobs float[T] or float[T, K] in nats, at most 0, differentiable in hidden, weight and bias; entropy
    float[T] in nats, zeros unless `with_entropy`, differentiable only with `entropy_gradient`). Both are float32 or
    as wide as the hidden states; logits of narrower ones are summed up and kept in float32.
    """
    width = torch.promote_types(hidden.dtype, torch.float32)
    usual = CPU_FUSED_ROWS if hidden.device.type == "cpu" else DEVICE_FUSED_ROWS
    blocks = _Blocks(min(usual, block_rows or usual), block_columns)
    columns = temperature.unsqueeze(-1) if temperature.dim() == 1 else temperature
    logprobs, entropy = _Measure.apply(  # pyright: ignore[reportGeneralTypeIssues]
        hidden, weight, bias, targets, columns.to(width), with_entropy, entropy_gradient, blocks
    )
    return logprobs.squeeze(-1) if temperature.dim() == 1 else logprobs, entropy


class _Blocks(NamedTuple):
    """How the logits are divided."""

    rows: int
    columns: int

    def of_tokens(self, count: int) -> list[slice]:
        return [slice(i, min(i + self.rows, count)) for i in range(0, count, self.rows)]

    def of_vocabulary(self, size: int) -> list[slice]:
        return [slice(i, min(i + self.columns, size)) for i in range(0, size, self.columns)]


class _Measure(torch.autograd.Function):
    """The vocabulary is the outer loop, so that a block of the matrix is read, and widened, once."""

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
        scales, units = list(temperature.unbind(-1)), (temperature == 1).all(0).tolist()
        # The entropy needs the sum at temperature 1: that of a column which is there, or one more.
        if with_entropy and not any(units):
            scales.append(torch.ones_like(scales[0]))
            units.append(True)
        at_one = units.index(True) if with_entropy else None
        top = torch.full_like(scales[0], torch.finfo(temperature.dtype).min)
        chosen, moment = torch.zeros_like(top), torch.zeros_like(top)
        sums = [torch.zeros_like(top) for _ in scales]
        for part in blocks.of_vocabulary(len(weight)):
            matrix, offset = _operand(weight[part]), None if bias is None else bias[part]
            for rows in blocks.of_tokens(len(hidden)):
                logits = _logits(hidden[rows], matrix, offset)
                inside, place = _places(targets[rows], part)
                chosen[rows] += logits.gather(1, place).squeeze(1) * inside
                highest = torch.maximum(top[rows], logits.amax(-1))
                fall = top[rows] - highest
                top[rows] = highest
                shifted = logits.sub_(highest.unsqueeze(-1))
                for k, scale in enumerate(scales):
                    mass = (shifted if units[k] else shifted / scale[rows].unsqueeze(-1)).exp()
                    shrink = (fall / scale[rows]).exp()
                    if k == at_one:
                        # The sum of e^z z, where z is now measured from a larger top.
                        moment[rows] = shrink * (moment[rows] + fall * sums[k][rows])
                        moment[rows] += torch.linalg.vecdot(mass, shifted)
                    sums[k][rows] = shrink * sums[k][rows] + mass.sum(-1)
        log_sums = torch.stack(sums, dim=-1).log()
        # Neither of the two terms can be positive.
        logprobs = (chosen - top).unsqueeze(-1) / temperature - log_sums[:, : temperature.shape[1]]
        entropy = torch.zeros_like(top)
        if at_one is not None:
            entropy = (log_sums[:, at_one] - moment / sums[at_one]).clamp_(min=0)
        ctx.save_for_backward(hidden, weight, bias, targets, temperature, top, log_sums, entropy)
        ctx.blocks, ctx.units, ctx.at_one = blocks, units, at_one
        ctx.entropy_gradient = with_entropy and entropy_gradient
        if not ctx.entropy_gradient:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor, entropy_slopes: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, temperature, top, log_sums, entropy = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wide = temperature.dtype
        pull = slopes / temperature
        d_hidden = torch.zeros_like(hidden, dtype=wide) if wants_hidden else None
        d_weight = torch.empty_like(weight) if wants_weight else None
        d_bias = torch.empty_like(bias) if wants_bias else None
        for part in ctx.blocks.of_vocabulary(len(weight)):
            matrix, offset = _operand(weight[part]), None if bias is None else bias[part]
            block, offsets = torch.zeros_like(matrix, dtype=wide), top.new_zeros(len(matrix))
            for rows in ctx.blocks.of_tokens(len(hidden)):
                shifted = _logits(hidden[rows], matrix, offset).sub_(top[rows].unsqueeze(-1))
                change = _softmax_slopes(shifted, pull[rows], temperature[rows], log_sums[rows], ctx.units)
                if ctx.entropy_gradient:
                    log_mass = shifted.sub_(log_sums[rows, ctx.at_one].unsqueeze(-1))
                    mass = log_mass.exp().mul_(entropy_slopes[rows].unsqueeze(-1))
                    change -= mass.mul_(log_mass.add_(entropy[rows].unsqueeze(-1)))
                inside, place = _places(targets[rows], part)
                at_target = change.gather(1, place) + (pull[rows].sum(-1) * inside).unsqueeze(1)
                change.scatter_(1, place, at_target)
                narrowed = change.to(matrix.dtype)
                if d_hidden is not None:
                    _add_product(d_hidden[rows], narrowed, matrix)
                if wants_weight:
                    _add_product(block, narrowed.T, _operand(hidden[rows]))
                if wants_bias:
                    offsets += change.sum(0)
            if d_weight is not None:
                d_weight[part] = block
            if d_bias is not None:
                d_bias[part] = offsets
        return None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight, d_bias, *[None] * 5


def _softmax_slopes(
    shifted: Tensor, pull: Tensor, temperature: Tensor, log_sums: Tensor, units: list[bool]
) -> Tensor:
    """Minus the sum over K of slope / temperature times probability: the logits' gradient without the targets' share.

    shifted: [t, v], logits less the top; pull, temperature: [t, K]; log_sums: [t, K or K + 1].
    """
    total: Tensor | None = None
    for k in range(temperature.shape[1]):
        log_sum = log_sums[:, k : k + 1]
        exponent = shifted - log_sum if units[k] else (shifted / temperature[:, k : k + 1]).sub_(log_sum)
        mass = exponent.exp_().mul_(-pull[:, k : k + 1])
        total = mass if total is None else total.add_(mass)
    return torch.zeros_like(shifted) if total is None else total


def _places(targets: Tensor, part: slice) -> tuple[Tensor, Tensor]:
    """Which targets lie in a part of the vocabulary (bool[t]), and their column there (int64[t, 1], 0 for others)."""
    inside = (targets >= part.start) & (targets < part.stop)
    return inside, torch.where(inside, targets - part.start, 0).unsqueeze(1)


def _logits(hidden: Tensor, matrix: Tensor, offset: Tensor | None) -> Tensor:
    logits = _product(_operand(hidden), matrix.T)
    return logits if offset is None else logits.add_(offset)


def _operand(factor: Tensor) -> Tensor:
    """A factor as it is multiplied: GPUs multiply narrow numbers and sum up in float32, CPUs get wide ones."""
    return factor if factor.is_cuda else factor.to(torch.promote_types(factor.dtype, torch.float32))


def _product(left: Tensor, right: Tensor) -> Tensor:
    """[a, b] x [b, c] -> [a, c], summed up and returned in float32 or wider."""
    if left.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(left, right, out_dtype=torch.float32)
    return left @ right


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += _product(left, right)
