"""Every rival control by a hand-computed case, and the laws that set its strength."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.distributed.ranks import Ranks
from tests.support.loss_cases import KINDS, kinds, present
from trainer.config.load import validate_config
from trainer.config.regularizer import RegularizerConfig
from trainer.errors import ScopeError
from trainer.loss.objective import LossInputs, scope_loss
from trainer.regularizers import Measured, TokenTerms, make_regularizer, make_strength_law
from trainer.regularizers.covariance import smallest_over_ranks


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
    positive=torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64),
    mask=matrix([1, 1], [1, 0], [0, 0]),
    logprobs=matrix([-0.1, -4.0], [-0.1, 0], [-9, -9]),
    entropy=matrix([0.5, 2.0], [0.1, 0], [7, 7]),
)


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
    assert law.update(0.5, 0.6) == pytest.approx(0.1)  # the entropy target was moved above H


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
    """Ratio 1.25: clipped at 1.2 by the loss block's range, not at 1.28, which never applies to auxiliary rows."""
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
    """The covariances of the case above: a third of the tokens is one, the first, with a penalty of 0.7 per nat."""
    config = block("kl_cov", ratio=0.34, coefficient=0.7)
    assert present(terms(config, MEASURED).penalty).tolist() == [[0.7, 0], [0, 0], [0, 0]]
    assert make_regularizer(config).clip_range(0.7) == (1.0, math.inf)
    clipped = RegularizerConfig.model_validate({"kind": "kl_cov", "kl_cov": {"clipping": True}})
    assert make_regularizer(clipped).clip_range(1.0) is None
    assert (
        present(terms(block("kl_cov", ratio=0.67), MEASURED).penalty) > 0
    ).sum() == 2  # one of two tied tokens


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
        0 * MEASURED.advantages, MEASURED.positive, MEASURED.mask, MEASURED.logprobs, MEASURED.entropy
    )
    assert not terms(block("entropy_advantage"), failed).advantages.any()


def test_dcpo_by_hand():
    """Half the rollouts pass: b = 0.1 / 0.5, a = 1/6; pi^T / pi is 0.5 and 2 on the positive's tokens."""
    tilted = MEASURED.logprobs + matrix(
        [math.log(0.5), math.log(2)], [math.log(3), 0], [math.log(5), math.log(5)]
    )
    measured = Measured(
        MEASURED.advantages, MEASURED.positive, MEASURED.mask, MEASURED.logprobs, MEASURED.entropy, tilted
    )
    for strength in (0.1, -0.1):  # hot or cold: the sign is in the tilted log-probabilities
        shaped = terms(block("dcpo"), measured, strength).advantages
        assert shaped[0].tolist() == pytest.approx([5 / 6 + 0.5 / 6, 5 / 6 + 2 / 6])
        assert shaped[1, 0].item() == pytest.approx(-5 / 6)


def test_dcpo_is_hot_below_the_entropy_target_cold_above_it_and_grpo_without_error_or_success():
    hooks = make_regularizer(block("dcpo"))
    assert [hooks.relative_temperature(error) for error in (0.05, -0.05, 0.0)] == [1.2, 0.8, None]
    assert terms(block("dcpo"), MEASURED, 0.0).advantages.tolist() == [[1, 1], [-1, -1], [1, 1]]
    none_passed = Measured(
        MEASURED.advantages,
        torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64),
        MEASURED.mask,
        MEASURED.logprobs,
        MEASURED.entropy,
        MEASURED.logprobs,
    )
    assert terms(block("dcpo"), none_passed, 0.1).advantages.tolist() == [[1, 1], [-1, -1], [1, 1]]


# Across ranks


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
def test_a_run_tracks_its_entropy_target_where_something_steers_towards_it(kind):
    alone = validate_config({"regularizer": {"kind": kind}, "entropy_control": {"kind": "none"}})
    assert alone.tracks_entropy_target is (kind in ("adaptive_coefficient", "dcpo"))
    assert alone.roles == ("base",)
    assert validate_config({"regularizer": {"kind": kind}}).tracks_entropy_target
