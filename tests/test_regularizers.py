"""Every rival control by a hand-computed case and against the float64 reference, alone and shared out over ranks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ranks import Ranks
from test_scope_loss import steps

from trainer.aggregation import base_row_weights
from trainer.batching import RolloutBatch
from trainer.config import RunConfig
from trainer.config_load import validate_config
from trainer.config_regularizer import RegularizerConfig
from trainer.errors import ScopeError
from trainer.plan import StepPlan, plan_step
from trainer.regularizers import Measured, TokenTerms, make_regularizer, make_strength_law
from trainer.regularizers.covariance import smallest_over_ranks
from trainer.role_sums import role_sums
from trainer.scope_loss import LossInputs, scope_loss

KINDS = (
    "none",
    "entropy_bonus",
    "adaptive_coefficient",
    "clip_higher",
    "clip_cov",
    "kl_cov",
    "entropy_advantage",
    "dcpo",
)
kinds = st.sampled_from(KINDS)


def block(kind: str, **fields: float) -> RegularizerConfig:
    return RegularizerConfig.model_validate({"kind": kind, **({kind: fields} if fields else {})})


def matrix(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def terms(config: RegularizerConfig, measured: Measured, strength: float | None = None) -> TokenTerms:
    value = make_strength_law(config).strength if strength is None else strength
    return make_regularizer(config).terms(measured, value, torch.Generator().manual_seed(1))


# Two base rollouts of two tokens, one of which is padding, and one row of another role.
MEASURED = Measured(
    advantages=torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64),
    rewards=torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64),
    mask=matrix([1, 1], [1, 0], [0, 0]),
    logprobs=matrix([-0.1, -4.0], [-0.1, 0], [-9, -9]),
    entropy=matrix([0.5, 2.0], [0.1, 0], [7, 7]),
)


def present(values: torch.Tensor | None) -> torch.Tensor:
    """For what a control must have set."""
    assert values is not None
    return values


# Strength laws


def test_adaptive_coefficient_by_hand():
    """Delta 0.1, at most 0.25: up while H <= 0.4, down and not applied above it."""
    law = make_strength_law(block("adaptive_coefficient", delta=0.1, maximum=0.25))
    assert law.strength == 0.0
    measured = (0.3, 0.4, 0.1, 0.5, math.nan, 0.2)
    applied = [law.update(entropy, 0.4) for entropy in measured]
    assert applied == pytest.approx([0.1, 0.2, 0.25, 0.0, 0.0, 0.25])
    for _ in range(5):
        law.update(0.9, 0.4)
    assert law.state()["coefficient"] == 0.0
    assert law.update(0.5, 0.6) == pytest.approx(0.1)  # the set-point was moved above H


def test_adaptive_coefficient_applies_nothing_before_it_has_measured():
    law = make_strength_law(block("adaptive_coefficient", initial=0.5))
    assert law.strength == 0.0
    assert law.update(0.1, 0.4) == pytest.approx(0.505)


def test_dcpo_strength_is_the_capped_error():
    law = make_strength_law(block("dcpo", cap=0.1))
    assert law.strength == 0.0
    applied = [law.update(entropy, 0.4) for entropy in (0.37, 0.1, 0.46, 2.0, math.inf)]
    assert applied == pytest.approx([0.03, 0.1, -0.06, -0.1, -0.1])


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("entropy_bonus", "coefficient", 0.03),
        ("clip_higher", "high", 0.4),
        ("clip_cov", "ratio", 0.02),
        ("kl_cov", "coefficient", 0.1),
        ("entropy_advantage", "alpha", 0.8),
    ],
)
def test_other_strengths_are_a_field_and_constant(kind, field, value):
    law = make_strength_law(block(kind, **{field: value}))
    assert {law.strength, law.update(0.1, 0.4), law.update(0.9, 0.4)} == {value}


entropies = st.floats(0, 5) | st.just(math.nan)
histories = st.lists(st.tuples(entropies, st.floats(0.01, 5)), max_size=12)


@given(kinds, histories, histories)
@settings(deadline=None, max_examples=60)
def test_a_restored_strength_continues_as_if_nothing_had_happened(kind, before, after):
    law, again = make_strength_law(block(kind)), make_strength_law(block(kind))
    for entropy, target in before:
        law.update(entropy, target)
    again.restore(json.loads(json.dumps(law.state(), allow_nan=False)))
    assert again.strength == law.strength
    for entropy, target in after:
        assert again.update(entropy, target) == law.update(entropy, target)


# Hooks by hand


def test_without_a_regularizer_every_token_has_its_rollouts_advantage():
    plain = terms(block("none"), MEASURED)
    assert plain.advantages.tolist() == [[1, 1], [-1, -1], [1, 1]]
    assert plain.keep is None
    assert plain.penalty is None
    hooks = make_regularizer(block("none"))
    assert hooks.clip_range(0.0) is None
    assert hooks.relative_temperature(0.0) is None
    assert hooks.entropy_coefficient(0.0) == 0.0


@pytest.mark.parametrize("kind", ["entropy_bonus", "adaptive_coefficient"])
def test_entropy_bonus_by_hand(kind):
    """Two tokens of 0.5 and 2 nats, each half of the mean: the loss falls by 0.1 * 1.25, its slope is -0.05."""
    coefficient = make_regularizer(block(kind)).entropy_coefficient(0.1)
    entropy = matrix([0.5, 2.0]).requires_grad_()
    one = matrix([1, 1])
    inputs = LossInputs(
        logprobs=-one,
        proximal_logprobs=-one,
        behaviour_logprobs=-one,
        mask=one,
        advantages=0 * one,
        base_weight=torch.zeros(1, dtype=torch.float64),
        auxiliary_weight=torch.zeros(1, dtype=torch.float64),
        entropy=entropy,
        entropy_weight=torch.ones(1, dtype=torch.float64),
    )
    outputs = scope_loss(
        inputs, alpha=0.0, clip_low=0.2, clip_high=0.2, tis_cap=2.0, entropy_coefficient=coefficient
    )
    assert outputs.loss.item() == pytest.approx(-0.125)
    (slope,) = torch.autograd.grad(outputs.loss, entropy)
    assert slope.tolist() == [[pytest.approx(-0.05)] * 2]


def test_a_coefficient_without_an_entropy_is_refused():
    one = matrix([1.0])
    inputs = LossInputs(-one, -one, -one, one, one, one[0], 0 * one[0])
    with pytest.raises(ValueError, match=r"entropy_coefficient=0\.1"):
        scope_loss(inputs, alpha=0.0, clip_low=0.2, clip_high=0.2, tis_cap=2.0, entropy_coefficient=0.1)


def test_clip_higher_by_hand():
    """Ratio 1.25: clipped at 1.2 with the loss block's range, free under 1.28, which auxiliary rows never get."""
    config = block("clip_higher")
    clip = make_regularizer(config).clip_range(make_strength_law(config).strength)
    assert clip == (0.2, 0.28)
    one = matrix([1], [1])
    inputs = LossInputs(
        logprobs=math.log(1.25) - one,
        proximal_logprobs=-one,
        behaviour_logprobs=-one,
        mask=one,
        advantages=one,
        base_weight=torch.tensor([1.0, 0.0], dtype=torch.float64),
        auxiliary_weight=torch.tensor([0.0, 1.0], dtype=torch.float64),
    )
    outputs = scope_loss(inputs, alpha=1.0, clip_low=0.2, clip_high=0.2, tis_cap=2.0, base_clip=clip)
    assert outputs.surrogate.item() == pytest.approx(1.25)
    assert outputs.auxiliary.item() == pytest.approx(1.2)


def test_clip_cov_by_hand():
    """A - 1/3 and log pi + 1.4: covariances 2/3 * 1.3 = 0.87, 2/3 * -2.6 = -1.73 and -4/3 * 1.3 = -1.73."""
    whole = block("clip_cov", ratio=1.0, lower=0.8, upper=0.9)
    assert present(terms(whole, MEASURED).keep).tolist() == [[0, 1], [1, 1], [1, 1]]
    low = block("clip_cov", ratio=1.0, lower=-1.8, upper=-1.7)
    assert present(terms(low, MEASURED).keep).tolist() == [[1, 0], [0, 1], [1, 1]]
    one_of_two = present(terms(block("clip_cov", lower=-1.8, upper=-1.7), MEASURED).keep)
    assert (one_of_two == 0).sum() == 1
    assert one_of_two[0, 1] + one_of_two[1, 0] == 1
    assert present(terms(block("clip_cov"), MEASURED).keep).all()  # nothing lies between 1 and 5


def test_clip_cov_draws_evenly_and_the_same_again_from_the_same_seed():
    hooks = make_regularizer(block("clip_cov", lower=-1.8, upper=-1.7))

    def drops_the_first(seed: int) -> bool:
        shaped = hooks.terms(MEASURED, 2e-4, torch.Generator().manual_seed(seed))
        return bool(present(shaped.keep)[0, 1] == 0)

    first, again = ([drops_the_first(seed) for seed in range(200)] for _ in range(2))
    assert first == again
    assert 70 < sum(first) < 130


def test_a_dropped_token_has_no_gradient_and_still_counts_in_the_mean():
    logprobs = matrix([-1.0, -1.0]).requires_grad_()
    one = matrix([1, 1])
    weight = torch.ones(1, dtype=torch.float64)
    inputs = LossInputs(logprobs, -one, -one, one, one, weight, 0 * weight, keep=matrix([0, 1]))
    outputs = scope_loss(inputs, alpha=0.0, clip_low=0.2, clip_high=0.2, tis_cap=2.0)
    (slope,) = torch.autograd.grad(outputs.loss, logprobs)
    assert slope.tolist() == [[0.0, -0.5]]


def test_kl_cov_by_hand():
    """The covariances of the case above: a third of the tokens is one, the first, and it pays 0.7 a nat."""
    config = block("kl_cov", ratio=0.34, coefficient=0.7)
    assert present(terms(config, MEASURED).penalty).tolist() == [[0.7, 0], [0, 0], [0, 0]]
    assert make_regularizer(config).clip_range(0.7) == (1.0, math.inf)
    clipped = RegularizerConfig.model_validate({"kind": "kl_cov", "kl_cov": {"clipping": True}})
    assert make_regularizer(clipped).clip_range(1.0) is None
    assert (
        present(terms(block("kl_cov", ratio=0.67), MEASURED).penalty) > 0
    ).sum() == 2  # of two that tie, one


@pytest.mark.parametrize("log_ratio", [0.3, -0.3])
def test_a_penalty_pulls_the_ratio_back_to_one(log_ratio):
    """-r + 0.7 * 0.3 for advantage 1, unclipped; the slope is -r + 0.7 sign."""
    logprobs = (log_ratio - matrix([1.0])).requires_grad_()
    one, weight = matrix([1.0]), torch.ones(1, dtype=torch.float64)
    inputs = LossInputs(logprobs, -one, -one, one, one, weight, 0 * weight, penalty=0.7 * one)
    outputs = scope_loss(
        inputs, alpha=0.0, clip_low=0.2, clip_high=0.2, tis_cap=2.0, base_clip=(1.0, math.inf)
    )
    assert outputs.loss.item() == pytest.approx(-math.exp(log_ratio) + 0.21)
    (slope,) = torch.autograd.grad(outputs.loss, logprobs)
    assert slope.item() == pytest.approx(-math.exp(log_ratio) + math.copysign(0.7, log_ratio))


def test_entropy_advantage_by_hand():
    """0.4 * 0.5 and at most 1/2 for advantage 1; 0.4 * 0.1 for advantage -1."""
    shaped = terms(block("entropy_advantage"), MEASURED).advantages
    assert shaped[0].tolist() == pytest.approx([1.2, 1.5])
    assert shaped[1, 0].item() == pytest.approx(-0.96)
    failed = Measured(
        0 * MEASURED.advantages, MEASURED.rewards, MEASURED.mask, MEASURED.logprobs, MEASURED.entropy
    )
    assert not terms(block("entropy_advantage"), failed).advantages.any()


def test_dcpo_by_hand():
    """Half the rollouts pass: b = 0.1 / 0.5, a = 1/6; pi^T / pi is 0.5 and 2 on the positive's tokens."""
    tilted = MEASURED.logprobs + matrix(
        [math.log(0.5), math.log(2)], [math.log(3), 0], [math.log(5), math.log(5)]
    )
    measured = Measured(
        MEASURED.advantages, MEASURED.rewards, MEASURED.mask, MEASURED.logprobs, MEASURED.entropy, tilted
    )
    for strength in (0.1, -0.1):  # hot or cold: the side is in the tilted log-probabilities
        shaped = terms(block("dcpo"), measured, strength).advantages
        assert shaped[0].tolist() == pytest.approx([5 / 6 + 0.5 / 6, 5 / 6 + 2 / 6])
        assert shaped[1, 0].item() == pytest.approx(-5 / 6)


def test_dcpo_is_hot_below_the_set_point_cold_above_it_and_grpo_without_error_or_success():
    hooks = make_regularizer(block("dcpo"))
    assert [hooks.relative_temperature(error) for error in (0.05, -0.05, 0.0)] == [1.2, 0.8, None]
    assert terms(block("dcpo"), MEASURED, 0.0).advantages.tolist() == [[1, 1], [-1, -1], [1, 1]]
    none_passed = Measured(
        MEASURED.advantages,
        torch.tensor([0.9, 0.0, 1.0], dtype=torch.float64),
        MEASURED.mask,
        MEASURED.logprobs,
        MEASURED.entropy,
        MEASURED.logprobs,
    )
    assert terms(block("dcpo"), none_passed, 0.1).advantages.tolist() == [[1, 1], [-1, -1], [1, 1]]


# Over ranks


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 1.5, 2.0, math.inf]), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 25),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranks_together_mark_exactly_the_smallest(monkeypatch, shares, count):
    work = [
        lambda share=share: smallest_over_ranks(torch.tensor(share, dtype=torch.float64), count)
        for share in shares
    ]
    marked = torch.cat(Ranks(len(shares)).run(monkeypatch, work))
    values = torch.tensor(shares, dtype=torch.float64).flatten()
    finite = sorted(v for v in values.tolist() if math.isfinite(v))
    assert sorted(values[marked].tolist()) == finite[:count]


def as_batch(rollouts: reference.Rollouts) -> RolloutBatch:
    """What the planner reads of a batch; there is no text behind it."""
    rows = len(rollouts.mask)
    return RolloutBatch(
        input_ids=torch.zeros(rows, 1, dtype=torch.int64),
        prompt_lengths=torch.ones(rows, dtype=torch.int64),
        targets=torch.from_numpy(rollouts.targets),
        mask=torch.from_numpy(rollouts.mask),
        behaviour_logprobs=torch.from_numpy(rollouts.behaviour),
        temperature=torch.from_numpy(rollouts.temperature),
        advantages=torch.from_numpy(np.where(rollouts.auxiliary, 1.0, rollouts.advantages)),
        rewards=torch.from_numpy(rollouts.rewards * (rollouts.mask.sum(1) > 0)),
        auxiliary=torch.from_numpy(rollouts.auxiliary),
        minibatch=torch.zeros(rows, dtype=torch.int64),
    )


def run_config(kind: str, aggregation: str = "sequence_mean", **fields: float) -> RunConfig:
    """All of the tokens may be chosen, so that no draw decides."""
    shares = {
        "clip_cov": {"ratio": 1.0, "lower": -0.5, "upper": 0.5},
        "kl_cov": {"ratio": 0.3, "coefficient": 0.7},
    }
    regularizer = {"kind": kind, **({kind: shares[kind]} if kind in shares else {})}
    if fields:
        regularizer[kind] = fields
    return validate_config(
        {
            "regularizer": regularizer,
            "rollout": {"max_new_tokens": 7},
            "loss": {"minibatches": 1, "aggregation": aggregation},
        }
    )


def planned(
    rollouts: reference.Rollouts, proximal_logits: np.ndarray, config: RunConfig, strength: float
) -> StepPlan:
    """The plan of one rank that holds `rollouts`."""
    hooks = make_regularizer(config.regularizer)
    logits = torch.from_numpy(proximal_logits)
    relative = hooks.relative_temperature(strength)

    def at(factor: float) -> torch.Tensor:
        return torch.from_numpy(
            reference.chosen_logprobs(
                proximal_logits, rollouts.targets, rollouts.mask, factor * rollouts.temperature
            )
        )

    entropy = torch.from_numpy(reference.entropy(logits.numpy()) * rollouts.mask)
    batch = as_batch(rollouts)
    return plan_step(
        batch,
        at(1.0),
        entropy,
        None if relative is None else at(relative),
        role_sums(batch, at(1.0), entropy, 0.0),
        hooks,
        config,
        surprisal_exponent=0.0,
        strength=strength,
        step=3,
    )


def expected_shape(
    kind: str, rollouts: reference.Rollouts, proximal_logits: np.ndarray, strength: float
) -> reference.Shape:
    """The same by the reference, with the settings of `run_config`."""

    def at(factor: float) -> np.ndarray:
        return reference.chosen_logprobs(
            proximal_logits, rollouts.targets, rollouts.mask, factor * rollouts.temperature
        )

    plain = reference.plain_shape(rollouts)
    match kind:
        case "entropy_bonus" | "adaptive_coefficient":
            return reference.Shape(plain.advantages, plain.keep, plain.penalty, bonus=strength)
        case "clip_higher":
            return reference.Shape(plain.advantages, plain.keep, plain.penalty, clip=(0.2, strength))
        case "clip_cov":
            for place in reference.clip_cov_candidates(rollouts, at(1.0), -0.5, 0.5):
                plain.keep[place] = 0
            return plain
        case "kl_cov":
            count = max(1, int(0.3 * len(reference.base_tokens(rollouts))))
            return reference.kl_cov(rollouts, at(1.0), count, strength)
        case "entropy_advantage":
            return reference.entropy_advantage(rollouts, reference.entropy(proximal_logits), strength, 2.0)
        case "dcpo" if strength != 0:
            return reference.dcpo(rollouts, at(1.0), at(1.2 if strength > 0 else 0.8), strength)
        case _:
            return plain


def plan_loss(
    plan: StepPlan, batch: RolloutBatch, logits: np.ndarray, rollouts: reference.Rollouts, alpha: float
) -> tuple[float, np.ndarray]:
    """Loss of the rows that the plan says are learning, and its gradient on the logits."""
    leaf = torch.tensor(logits, requires_grad=True)
    temperature = torch.from_numpy(rollouts.temperature)[:, None, None]
    chosen = (leaf / temperature).log_softmax(-1).gather(-1, torch.from_numpy(rollouts.targets)[..., None])
    logp = leaf.log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    rows = plan.learning.nonzero().squeeze(-1)
    micro = batch.select(rows)
    outputs = scope_loss(
        plan.inputs(rows, micro, chosen.squeeze(-1)[rows] * micro.mask, entropy[rows]),
        alpha=alpha,
        clip_low=0.2,
        clip_high=0.2,
        tis_cap=2.0,
        base_clip=plan.base_clip,
        entropy_coefficient=plan.entropy_coefficient,
    )
    outputs.loss.backward()
    assert leaf.grad is not None
    return outputs.loss.item(), leaf.grad.numpy()


def strength_of(kind: str, drawn: float) -> float:
    """Only DCPO's has a sign; of Clip-Cov's candidates all are left out."""
    return {"dcpo": drawn, "clip_cov": 1.0}.get(kind, abs(drawn))


def assume_no_ties(kind: str, rollouts: reference.Rollouts, proximal_logits: np.ndarray) -> None:
    """Which of two equal covariances is the larger is a matter of rounding."""
    proximal = reference.chosen_logprobs(
        proximal_logits, rollouts.targets, rollouts.mask, rollouts.temperature
    )
    ordered = np.sort(list(reference.covariances(rollouts, proximal).values()))
    assume(kind != "kl_cov" or len(ordered) < 2 or np.diff(ordered).min() > 1e-9)


aggregations = st.sampled_from(["sequence_mean", "token_mean", "dr_grpo"])
strengths = st.sampled_from([0.0, 0.05, 0.4, -0.07])


@given(kinds, aggregations, strengths, steps())
@settings(deadline=None, max_examples=100)
def test_plan_loss_and_gradient_are_those_of_the_reference(kind, aggregation, strength, step):
    """Rows that the plan leaves out have no gradient in the reference either."""
    logits, proximal_logits, rollouts, _ = step
    strength = strength_of(kind, strength)
    assume_no_ties(kind, rollouts, proximal_logits)
    objective = reference.Objective(alpha=0.5, aggregation=aggregation, budget=7)
    proximal = reference.chosen_logprobs(
        proximal_logits, rollouts.targets, rollouts.mask, rollouts.temperature
    )
    plan = planned(rollouts, proximal_logits, run_config(kind, aggregation), strength)
    loss, gradient = plan_loss(plan, as_batch(rollouts), logits, rollouts, 0.5)
    expected_loss, expected = reference.loss_and_gradient(
        logits,
        proximal,
        rollouts,
        reference.row_weights(rollouts, proximal, objective),
        objective,
        expected_shape(kind, rollouts, proximal_logits, strength),
        entropy_share=1 / max(1, len(reference.base_tokens(rollouts))),
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


@given(kinds, aggregations, strengths, steps(), st.integers(2, 3))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranks_that_share_a_batch_plan_what_one_rank_would(
    monkeypatch, kind, aggregation, strength, step, size
):
    _, proximal_logits, rollouts, _ = step
    strength = strength_of(kind, strength)
    assume_no_ties(kind, rollouts, proximal_logits)
    config = run_config(kind, aggregation)
    whole = planned(rollouts, proximal_logits, config, strength)
    shares = np.array_split(np.arange(len(rollouts.mask)), size)

    def share_of(rows: np.ndarray) -> StepPlan:
        part = reference.Rollouts(**{name: values[rows] for name, values in vars(rollouts).items()})
        return planned(part, proximal_logits[rows], config, strength)

    plans = Ranks(size).run(monkeypatch, [lambda rows=rows: share_of(rows) for rows in shares])
    for name in ("advantages", "keep", "penalty", "base_weight", "auxiliary_weight", "entropy_weight"):
        expected, parts = getattr(whole, name), [getattr(plan, name) for plan in plans]
        if expected is None:
            assert parts == [None] * size
        else:
            torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-9, atol=1e-9)


@given(kinds, strengths, steps())
@settings(deadline=None, max_examples=40)
def test_no_control_touches_auxiliary_rollouts(kind, strength, step):
    _, proximal_logits, rollouts, _ = step
    strength = strength_of(kind, strength)
    plan = planned(rollouts, proximal_logits, run_config(kind), strength)
    plain = planned(rollouts, proximal_logits, run_config("none"), 0.0)
    auxiliary = torch.from_numpy(rollouts.auxiliary)
    assert (plan.advantages[auxiliary] == 1).all()
    assert plan.keep is None or plan.keep[auxiliary].all()
    assert plan.penalty is None or not plan.penalty[auxiliary].any()
    assert not plan.entropy_weight[auxiliary].any()
    assert not plan.base_weight[auxiliary].any()
    assert torch.equal(plan.auxiliary_weight, plain.auxiliary_weight)


def test_draws_depend_on_seed_step_and_rank_alone(monkeypatch):
    rng = np.random.default_rng(3)
    rows, width = 6, 50
    rollouts = reference.Rollouts(
        targets=rng.integers(0, 5, (rows, width)),
        mask=np.ones((rows, width)),
        temperature=np.ones(rows),
        behaviour=np.zeros((rows, width)),
        rewards=np.ones(rows),
        advantages=rng.normal(size=rows),
        auxiliary=np.zeros(rows, bool),
    )
    logits = rng.normal(size=(rows, width, 5))
    config = run_config("clip_cov", ratio=0.1, lower=-99.0, upper=99.0)

    def keep(run: RunConfig) -> torch.Tensor:
        return present(planned(rollouts, logits, run, 0.1).keep)

    once = keep(config)
    assert torch.equal(once, keep(config))
    assert (once == 0).sum() == 30
    assert not torch.equal(once, keep(config.model_copy(update={"seed": 2})))
    of_ranks = Ranks(2).run(monkeypatch, [lambda: keep(config)] * 2)
    assert not torch.equal(*of_ranks)
    assert sum(int((part == 0).sum()) for part in of_ranks) == 60


# Aggregation


def test_aggregation_by_hand():
    """Lengths 1 and 3 and an empty row; L = 4."""
    lengths = torch.tensor([1.0, 3.0, 0.0])
    by_name = {
        name: base_row_weights(name, lengths, rollouts=2, tokens=4, max_new_tokens=4).tolist()
        for name in ("sequence_mean", "token_mean", "dr_grpo")
    }
    assert by_name == {
        "sequence_mean": [0.5, 0.5, 0.0],
        "token_mean": [0.25, 0.75, 0.0],
        "dr_grpo": [0.125, 0.375, 0.0],
    }
    with pytest.raises(ValueError, match=r"loss\.aggregation='median'"):
        base_row_weights("median", lengths, rollouts=2, tokens=4, max_new_tokens=4)


# Configuration


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"kind": "bonus"}, ["regularizer.kind = 'bonus'", "'entropy_bonus'", "'dcpo'"]),
        ({"entropy_bonus": {"coefficient": -0.1}}, ["coefficient = -0.1", "at least 0"]),
        ({"adaptive_coefficient": {"initial": 0.5, "maximum": 0.1}}, ["initial=0.5", "maximum=0.1"]),
        ({"clip_cov": {"lower": 6.0}}, ["lower=6.0", "upper=5.0"]),
        ({"clip_cov": {"ratio": 0.0}}, ["ratio = 0.0", "above 0 and at most 1"]),
        ({"kl_cov": {"ratio": 1.5}}, ["ratio = 1.5", "at most 1"]),
        ({"entropy_advantage": {"kappa": 1.0}}, ["kappa = 1.0", "above 1"]),
        ({"dcpo": {"cap": 0.0}}, ["cap = 0.0", "above 0"]),
    ],
)
def test_what_a_control_cannot_mean_is_refused(tree, said):
    with pytest.raises(ScopeError) as refusal:
        validate_config({"regularizer": tree})
    assert all(words in str(refusal.value) for words in said), refusal.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_tracks_its_set_point_where_something_steers_towards_it(kind):
    alone = validate_config({"regularizer": {"kind": kind}, "entropy_control": {"kind": "none"}})
    assert alone.tracks_set_point is (kind in ("adaptive_coefficient", "dcpo"))
    assert alone.roles == ("base",)
    assert validate_config({"regularizer": {"kind": kind}}).tracks_set_point
