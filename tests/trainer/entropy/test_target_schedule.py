"""The scheduled entropy target by learner step: values by hand, properties, refusals, and the target in force."""

import math
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from redis import Redis

from services.entropy_target import store
from services.learner.target_in_force import TargetInForce
from services.redis.keys import RunKeys
from services.redis.query import fetch
from trainer.config import EntropyControlConfig, RunConfig, ScheduleConfig
from trainer.entropy_control.schedule import Schedule
from trainer.errors import ScopeError

TARGETS = st.floats(0.01, 5.0)


def control(target: float | Literal["auto"] = 0.6, **schedule) -> EntropyControlConfig:
    return EntropyControlConfig(target=target, schedule=ScheduleConfig(**schedule))


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ({}, {0: 0.6, 1: 0.6, 10_000: 0.6}),
        (
            {"kind": "step", "points": ((40, 0.3), (100, 0.5))},
            {0: 0.6, 39: 0.6, 40: 0.3, 99: 0.3, 100: 0.5, 999: 0.5},
        ),
        ({"kind": "step", "points": ((0, 0.3),)}, {0: 0.3, 5: 0.3}),
        (
            {"kind": "linear", "to": 0.2, "from_step": 10, "until_step": 50},
            {0: 0.6, 10: 0.6, 11: 0.59, 20: 0.5, 30: 0.4, 49: 0.21, 50: 0.2, 51: 0.2, 999: 0.2},
        ),
        ({"kind": "linear", "to": 1.0, "until_step": 1}, {0: 0.6, 1: 1.0, 2: 1.0}),
        (
            # Thirds of the half period: cos 60° = 1/2, so that 1/4, 1/2 and 3/4 of the way are at 1/3, 1/2, 2/3.
            {"kind": "cosine", "to": 0.2, "from_step": 10, "until_step": 70},
            {0: 0.6, 10: 0.6, 30: 0.5, 40: 0.4, 50: 0.3, 70: 0.2, 999: 0.2},
        ),
    ],
    ids=["hold", "step", "step at once", "linear", "linear in one step", "cosine"],
)
def test_every_kind_has_the_values_of_its_formula(schedule, values):
    made = Schedule(control(**schedule), None)
    assert {step: made.target_at(step) for step in values} == pytest.approx(values)


@given(
    kind=st.sampled_from(["linear", "cosine"]),
    first=TARGETS,
    to=TARGETS,
    begin=st.integers(0, 50),
    length=st.integers(1, 60),
)
def test_a_moving_entropy_target_goes_from_end_to_end_without_turning_back_or_jumping(
    kind, first, to, begin, length
):
    made = Schedule(control(first, kind=kind, to=to, from_step=begin, until_step=begin + length), None)
    path = [made.target_at(step) for step in range(begin + length + 5)]
    assert path[: begin + 1] == pytest.approx([first] * (begin + 1), rel=1e-15)
    assert path[begin + length :] == [to] * 5
    moves = [later - earlier for earlier, later in pairwise(path)]
    assert all(move * (to - first) >= -1e-12 for move in moves)
    # At its steepest the cosine is pi/2 times as steep as the line.
    steepest = abs(to - first) / length * (math.pi / 2 if kind == "cosine" else 1)
    assert max(map(abs, moves)) <= steepest + 1e-12


@given(
    points=st.lists(
        st.tuples(st.integers(0, 200), TARGETS), min_size=1, max_size=6, unique_by=lambda p: p[0]
    ),
    step=st.integers(0, 220),
)
def test_steps_take_each_point_from_its_step_until_the_next_one(points, step):
    points = tuple(sorted(points))
    expected = 0.6
    for from_step, target in points:
        expected = target if step >= from_step else expected
    assert Schedule(control(kind="step", points=points), None).target_at(step) == expected


@pytest.mark.parametrize(
    ("schedule", "first"),
    [
        ({}, 0.35),
        ({"kind": "step", "points": ((9, 0.3),)}, 0.35),
        ({"kind": "linear", "to": 0.3, "until_step": 9}, 0.5),
        ({"kind": "cosine", "to": 0.3, "from_step": 3, "until_step": 9}, 0.5),
    ],
)
def test_auto_is_a_share_of_the_starting_entropy_and_a_moving_entropy_target_begins_at_it(schedule, first):
    made = Schedule(control("auto", **schedule), 0.5)
    assert made.target_at(0) == pytest.approx(first)
    if schedule:
        assert made.target_at(9) == 0.3
    with pytest.raises(ValueError, match="needs the starting entropy"):
        Schedule(control("auto", **schedule), None)


def test_a_start_from_which_auto_leaves_the_allowed_range_is_refused_with_all_its_numbers():
    with pytest.raises(ScopeError) as caught:
        Schedule(control("auto"), 0.01)
    for words in ("target=auto", "0.007 nats", "auto_fraction=0.7", "starting entropy 0.01", "[0.01, 5]"):
        assert words in str(caught.value)
    with pytest.raises(ScopeError, match=r"gives 6 nats per token \(the starting entropy 6\)"):
        Schedule(control("auto", kind="linear", to=0.3, until_step=9), 6.0)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"kind": "step"}, r"points=\[\] must have at least one"),
        (
            {"kind": "step", "points": ((5, 0.3), (5, 0.4))},
            "learner step 5 follows 5; the steps must be ascending",
        ),
        (
            {"kind": "step", "points": ((5, 0.3),), "to": 0.2},
            "to=0.2 needs kind='linear' or 'cosine', not 'step'",
        ),
        ({"points": ((5, 0.3),)}, r"points=\[\[5, 0.3\]\] needs kind='step', not 'hold'"),
        ({"from_step": 3}, "from_step=3 needs kind='linear' or 'cosine', not 'hold'"),
        ({"until_step": 3}, "until_step=3 needs kind='linear' or 'cosine', not 'hold'"),
        ({"kind": "linear", "to": 0.3}, "needs both to .* to=0.3 and until_step=None"),
        ({"kind": "cosine", "until_step": 3}, "needs both to .* to=None and until_step=3"),
        (
            {"kind": "linear", "to": 0.3, "from_step": 5, "until_step": 5},
            "until_step=5 must be above from_step=5",
        ),
        ({"kind": "linear", "to": 7.0, "until_step": 5}, r"schedule.to=7.0 must lie in \[0.01, 5.0\] nats"),
        (
            {"kind": "step", "points": ((1, 0.3), (2, 0.0))},
            r"schedule.points.1.1=0.0 must lie in \[0.01, 5.0\]",
        ),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_by_field_and_value(schedule, said):
    with pytest.raises(ValidationError, match=said):
        control(**schedule)


class Boundary:
    """One incarnation of rank 0 at its step boundaries, reduced to the entropy target."""

    def __init__(
        self, redis: Redis, run_id: str, config: EntropyControlConfig, start: float | None = None
    ) -> None:
        self.redis, self.run_id, self.config = redis, run_id, config
        self.epoch = int(redis.incr(RunKeys(run_id).fence))  # type: ignore[arg-type]
        whole = RunConfig(entropy_control=config)
        self.target = TargetInForce(redis, run_id, whole, self.epoch, start)

    def steps(self, *steps: int, entropy: float = 0.5) -> list[float | None]:
        """The targets passed to the control law."""
        values = []
        for step in steps:
            self.target.begin(step)
            self.target.measured(entropy)
            values.append(self.target.value)
        return values

    @property
    def in_force(self) -> tuple[int, int, float | None, int | None]:
        """As recorded in Redis: (generation, step from which it applies, target, step of that target)."""
        applied = store.read_applied(self.redis, self.run_id)
        assert applied is not None
        return applied.generation, applied.step, applied.target, applied.target_step


LINEAR = {"kind": "linear", "to": 0.2, "until_step": 8}


@pytest.fixture
def run(redis, run_id):
    store.initialise_entropy_target(redis, run_id)
    return run_id


def test_the_schedule_moves_the_target_without_making_generations(redis, run):
    learner = Boundary(redis, run, control(**LINEAR))
    assert learner.steps(0, 1, 2, 8, 9) == pytest.approx([0.6, 0.55, 0.5, 0.2, 0.2])
    assert learner.in_force == (1, 0, 0.2, 9)
    assert [event.event for event in fetch(redis, store.history_read(run, 100))] == ["applied", "changed"]


def test_a_target_set_live_holds_until_the_schedule_is_asked_back_and_that_is_where_it_would_be(redis, run):
    config = control(**LINEAR)
    learner = Boundary(redis, run, config)
    learner.steps(0, 1)
    store.change_entropy_target(redis, run, 0.45, "ada", config)
    assert learner.steps(2, 3, 4) == [0.45] * 3
    assert learner.in_force == (2, 2, 0.45, 4)
    store.reset_entropy_target(redis, run, "ada", config)
    assert learner.steps(5, 6) == pytest.approx([0.35, 0.3])
    assert learner.in_force == (3, 5, pytest.approx(0.3), 6)


def test_a_target_set_live_may_move_there_over_steps_from_what_was_in_force(redis, run):
    config = control()
    learner = Boundary(redis, run, config)
    assert learner.steps(0, 1) == [0.6, 0.6]
    store.change_entropy_target(redis, run, 0.2, "ada", config, over_steps=4)
    assert learner.steps(2, 3) == pytest.approx([0.5, 0.4])
    again = Boundary(redis, run, config)
    assert again.steps(4, 5, 6) == pytest.approx([0.3, 0.2, 0.2]), "a resumed learner must continue the ramp"
    rolled_back = Boundary(redis, run, config)
    assert rolled_back.steps(1, 2) == pytest.approx([0.5, 0.4]), "the change must apply from the earlier step"
    store.change_entropy_target(redis, run, 0.5, "ada", config, over_steps=1)
    assert rolled_back.steps(3, 4) == pytest.approx([0.5, 0.5])


def test_resuming_in_mid_ramp_gives_the_same_sequence(redis, run):
    config = control("auto", kind="cosine", to=0.2, from_step=1, until_step=9)
    whole = Boundary(redis, run, config).steps(*range(12), entropy=0.7)
    again = Boundary(redis, run, config, start=0.7).steps(*range(4, 12), entropy=0.31)
    assert again == whole[4:]


def test_auto_is_measured_once_from_the_first_finite_entropy_and_outlives_every_process(redis, run):
    learner = Boundary(redis, run, control("auto"))
    learner.target.begin(0)
    assert learner.target.value is None
    assert learner.in_force == (1, 0, None, None)
    assert learner.steps(0, 1, entropy=math.nan) == [None, None]
    assert learner.target.starting_entropy is None

    assert learner.steps(2, entropy=0.8) == pytest.approx([0.56])
    assert learner.in_force == (1, 0, pytest.approx(0.56), 2)
    assert learner.steps(3, entropy=0.2) == pytest.approx([0.56])
    document = store.read_entropy_target(redis, run)
    assert document is not None
    assert document.starting_entropy == learner.target.starting_entropy == 0.8

    without_checkpoint = Boundary(redis, run, control("auto"))
    assert without_checkpoint.steps(0, entropy=0.3) == pytest.approx([0.56])


def test_a_checkpoint_gives_the_start_back_to_a_redis_that_lost_it(redis, run):
    learner = Boundary(redis, run, control("auto"), start=0.8)
    assert learner.steps(40, entropy=0.3) == pytest.approx([0.56])
    document = store.read_entropy_target(redis, run)
    assert document is not None
    assert document.starting_entropy == 0.8


def test_the_start_is_kept_for_a_run_that_asks_for_auto_only_later(redis, run):
    Boundary(redis, run, control(0.4)).steps(0, entropy=0.8)
    assert Boundary(redis, run, control("auto")).steps(30, entropy=0.3) == pytest.approx([0.56])


def test_a_start_out_of_range_is_refused_and_not_kept(redis, run):
    with pytest.raises(ScopeError, match="target=auto"):
        Boundary(redis, run, control("auto")).steps(0, entropy=0.001)
    document = store.read_entropy_target(redis, run)
    assert document is not None
    assert document.starting_entropy is None


def test_without_control_there_is_no_target(redis, run):
    none = EntropyControlConfig(kind="none", target="auto")
    learner = Boundary(redis, run, none)
    assert learner.steps(0, 1, entropy=0.001) == [None, None]
    assert learner.in_force == (1, 0, None, None)
