"""The documents of a run in Redis: its lifecycle, and the entropy target shared by control plane and learner."""

import math
import threading
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from services.entropy_target import store
from services.entropy_target.documents import TargetRefused
from services.redis.fencing import FencedError
from services.redis.keys import RunKeys
from services.redis.query import fetch, server_time
from services.run import control as run_control
from services.run import heartbeats, state
from tests.support.runs.registered_run import register_run
from trainer.config import EntropyControlConfig, RunConfig, ScheduleConfig
from trainer.config.load import config_hash, validate_config
from trainer.errors import ScopeError

CONTROL = EntropyControlConfig(target=0.4, target_min=0.1, target_max=2.0, target_max_change=0.5)
WITH_REDIS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def a_spec(run_id: str, **fields) -> state.RunSpec:
    config = validate_config({"entropy_control": {"target": 0.4}, **fields})
    return state.RunSpec(
        run_id=run_id,
        config=config.model_dump(mode="json"),
        config_hash=config_hash(config),
        started_at=1000.0,
        versions={"ray": "2"},
    )


def status_of(redis: Redis, run: str) -> state.RunStatus:
    status = state.read_status(redis, run)
    assert status is not None
    return status


def since(status: state.RunStatus) -> float:
    assert status.phase_since is not None
    return status.phase_since


def entropy_target_of(redis: Redis, run: str) -> store.DesiredTarget:
    document = store.read_entropy_target(redis, run)
    assert document is not None
    return document


@pytest.fixture
def run(redis, run_id):
    register_run(redis, run_id, a_spec(run_id))
    return run_id


def test_a_new_run_is_known_and_starting_with_generation_one(redis, run):
    status = status_of(redis, run)
    assert run in state.run_ids(redis)
    assert state.read_spec(redis, run) == a_spec(run)
    assert (status.phase, status.step, status.of, status.error) == ("starting", 0, RunConfig().steps, None)
    document = entropy_target_of(redis, run)
    assert (document.generation, document.target, document.source) == (1, None, "configuration")
    assert store.read_applied(redis, run) is None


def test_an_unknown_run_has_no_documents(redis, run_id):
    assert state.read_spec(redis, run_id) is None
    assert state.read_status(redis, run_id) is None
    assert store.read_entropy_target(redis, run_id) is None
    assert fetch(redis, store.history_read(run_id, 1)) == []
    assert heartbeats.generators(redis, run_id) == {}
    assert run_control.desired(redis, run_id) == ("run", 0)


def test_resuming_keeps_the_live_entropy_target_and_the_step_and_forgets_the_stop(redis, run):
    store.change_entropy_target(redis, run, 0.7, "ada", CONTROL)
    state.update_status(redis, run, phase="failed", step=12, error="the learner died")
    heartbeats.beat(redis, run, "base-0", {"role": "base"})
    run_control.request_action(redis, run, "stop", "ada")
    assert run_control.desired(redis, run).state == "stop"

    register_run(redis, run, a_spec(run, steps=500))

    status = status_of(redis, run)
    assert (status.phase, status.step, status.of, status.error) == ("starting", 12, 500, None)
    assert entropy_target_of(redis, run).target == 0.7
    assert heartbeats.generators(redis, run) == {}
    assert run_control.desired(redis, run).state == "run"


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "{x}", "a:b", "-a", "x" * 129, "a\n", "é"])
def test_a_run_id_that_is_no_safe_name_is_refused(redis, bad):
    with pytest.raises(ScopeError, match="run id"):
        state.initialise_run(redis, bad, a_spec("x"))


def test_writers_of_the_status_do_not_undo_each_other(redis, run):
    state.update_status(redis, run, phase="running")
    state.update_status(redis, run, step=3, record={"entropy": 0.5, "kl": math.nan, "deep": [math.inf]})
    before = status_of(redis, run)
    state.update_status(redis, run)
    after = status_of(redis, run)
    assert (after.phase, after.step) == ("running", 3)
    assert after.record == {"entropy": 0.5, "kl": None, "deep": [None]}
    assert after.heartbeat > before.heartbeat


def test_a_phase_keeps_the_time_of_its_beginning_and_its_newest_detail(redis, run):
    state.update_status(redis, run, phase="starting_engines", detail="0 of 2 ready")
    first = status_of(redis, run)
    state.update_status(redis, run, phase="starting_engines", detail="1 of 2 ready")
    state.update_status(redis, run)
    second = status_of(redis, run)
    state.update_status(redis, run, phase="evaluating")
    third = status_of(redis, run)
    assert (first.phase_detail, second.phase_detail, third.phase_detail) == (
        "0 of 2 ready",
        "1 of 2 ready",
        None,
    )
    assert first.phase_since == second.phase_since
    assert since(second) < second.heartbeat
    assert since(third) > since(second)


def test_a_run_that_starts_again_in_the_phase_it_died_in_begins_that_phase_anew(redis, run):
    before = status_of(redis, run)
    register_run(redis, run, a_spec(run))
    assert since(status_of(redis, run)) > since(before)


def test_heartbeats_replace_each_other_by_generator(redis, run):
    heartbeats.beat(redis, run, "base-0", {"role": "base", "tokens": 1})
    heartbeats.beat(redis, run, "adaptive-0", {"role": "adaptive", "tokens": 2})
    heartbeats.beat(redis, run, "base-0", {"role": "base", "tokens": 3})
    seen = heartbeats.generators(redis, run)
    assert {name: beat["tokens"] for name, beat in seen.items()} == {"base-0": 3, "adaptive-0": 2}
    assert abs(seen["base-0"]["at"] - server_time(redis)) < 60


@given(target=st.floats(0.1, 0.9))
@WITH_REDIS
def test_a_target_keeps_every_bit(redis, run, target):
    wide = CONTROL.model_copy(update={"target_max_change": 10.0})
    changed = store.change_entropy_target(redis, run, target, "ada", wide)
    assert entropy_target_of(redis, run) == changed
    assert changed.target == target


@pytest.mark.parametrize(
    ("target", "reason", "allowed"),
    [
        (0.09, "range", "[0.1, 2]"),
        (2.01, "range", "[0.1, 2]"),
        (math.nan, "range", "[0.1, 2]"),
        (0.91, "change", "at most 0.5 from 0.4 nats per token, so it must lie in [0.1, 0.9]"),
    ],
)
def test_a_change_outside_the_limits_changes_nothing(redis, run, target, reason, allowed):
    before = entropy_target_of(redis, run)
    with pytest.raises(TargetRefused) as caught:
        store.change_entropy_target(redis, run, target, "ada", CONTROL)
    assert caught.value.reason == reason
    assert allowed in caught.value.allowed
    assert entropy_target_of(redis, run) == before
    assert len(fetch(redis, store.history_read(run, 100))) == 1


def test_the_edge_of_the_limits_is_allowed(redis, run):
    assert store.change_entropy_target(redis, run, 0.9, "ada", CONTROL).generation == 2
    assert store.change_entropy_target(redis, run, 0.4, "ada", CONTROL).generation == 3
    assert store.change_entropy_target(redis, run, 0.1, "ada", CONTROL).generation == 4


def test_a_run_without_control_or_without_a_document_takes_no_target(redis, run, run_id):
    none = CONTROL.model_copy(update={"kind": "none"})
    with pytest.raises(TargetRefused, match=r"entropy_control\.kind=none"):
        store.change_entropy_target(redis, run, 0.5, "ada", none)
    with pytest.raises(LookupError, match="no entropy target"):
        store.change_entropy_target(redis, f"{run_id}-absent", 0.5, "ada", CONTROL)


def test_a_change_is_measured_from_what_the_schedule_has_come_to(redis, run):
    store.mark_applied(redis, run, 1, 80, epoch=0, target=1.2)
    with pytest.raises(TargetRefused, match=r"at most 0.5 from 1.2 nats per token, .* \[0.7, 1.7\]"):
        store.change_entropy_target(redis, run, 0.4, "ada", CONTROL)
    assert store.change_entropy_target(redis, run, 0.8, "ada", CONTROL).generation == 2
    with pytest.raises(TargetRefused, match=r"from 0\.8 nats"):
        store.change_entropy_target(redis, run, 1.4, "ada", CONTROL)


def test_before_the_first_step_a_change_is_measured_from_where_the_schedule_begins(redis, run):
    control = CONTROL.model_copy(update={"schedule": ScheduleConfig(kind="step", points=((0, 1.5),))})
    with pytest.raises(TargetRefused, match=r"from 1\.5 nats"):
        store.change_entropy_target(redis, run, 0.4, "ada", control)
    auto = CONTROL.model_copy(update={"target": "auto"})
    assert store.change_entropy_target(redis, run, 2.0, "ada", auto).target == 2.0


def test_the_way_back_to_the_schedule_is_a_generation_of_its_own_and_taken_once(redis, run):
    far = CONTROL.model_copy(update={"target_max_change": 10.0})
    store.change_entropy_target(redis, run, 2.0, "ada", far)
    back = store.reset_entropy_target(redis, run, "bob", CONTROL)
    assert (back.generation, back.source, back.target, back.updated_by) == (3, "configuration", None, "bob")
    assert store.reset_entropy_target(redis, run, "eve", CONTROL) == back == entropy_target_of(redis, run)
    (newest,) = fetch(redis, store.history_read(run, 1))
    assert (newest.event, newest.generation, newest.target, newest.by) == ("changed", 3, None, "bob")
    with pytest.raises(LookupError, match="no entropy target"):
        store.reset_entropy_target(redis, f"{run}-absent", "ada", CONTROL)
    with pytest.raises(TargetRefused, match=r"entropy_control\.kind=none"):
        store.reset_entropy_target(redis, run, "ada", CONTROL.model_copy(update={"kind": "none"}))


def test_concurrent_changes_take_generations_without_gap_or_double(redis, run):
    taken: list[int] = []

    def change() -> None:
        taken.extend(
            store.change_entropy_target(redis, run, 0.5, "ada", CONTROL).generation for _ in range(20)
        )

    threads = [threading.Thread(target=change) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(2, 122))
    assert entropy_target_of(redis, run).generation == 121
    recorded = [event.generation for event in fetch(redis, store.history_read(run, 1000))]
    assert recorded == list(range(121, 0, -1))


class TargetProtocol(RuleBasedStateMachine):
    """Changes, step boundaries, rollbacks and takeovers in any order, checked against a model."""

    redis: ClassVar[Redis]
    prefix: ClassVar[str]
    runs = 0

    @initialize()
    def start(self):
        type(self).runs += 1
        self.run_id = f"{self.prefix}-{type(self).runs}"
        store.initialise_entropy_target(self.redis, self.run_id)
        self.targets: list[float | None] = [None]
        self.applied: tuple[int, int] | None = None
        self.superseded: set[int] = set()
        self.step, self.epoch = 0, 0
        self.in_hand = 0

    @rule(value=st.floats(0.35, 0.75))
    def change(self, value):
        document = store.change_entropy_target(self.redis, self.run_id, value, "ada", CONTROL)
        self.targets.append(value)
        assert document.generation == len(self.targets)

    @rule()
    def reset(self):
        document = store.reset_entropy_target(self.redis, self.run_id, "ada", CONTROL)
        if self.targets[-1] is not None:
            self.targets.append(None)
        assert (document.generation, document.source) == (len(self.targets), "configuration")

    @rule()
    def resume_driver(self):
        assert not store.initialise_entropy_target(self.redis, self.run_id)

    @rule()
    def read_at_a_boundary(self):
        self.in_hand = entropy_target_of(self.redis, self.run_id).generation

    @precondition(lambda self: self.in_hand > 0)
    @rule()
    def mark(self):
        news = store.mark_applied(self.redis, self.run_id, self.in_hand, self.step, self.epoch)
        generation, step = self.applied or (0, 0)
        newer = self.in_hand > generation
        assert news == (newer or (self.in_hand == generation and self.step < step))
        if newer:
            self.superseded |= set(range(generation + 1, self.in_hand))
        if news:
            self.applied = (self.in_hand, self.step)

    @precondition(lambda self: self.applied is not None and self.applied[0] > 1)
    @rule()
    def an_older_generation_is_no_news(self):
        older = (self.applied or (0, 0))[0] - 1
        assert not store.mark_applied(self.redis, self.run_id, older, self.step, self.epoch)

    @rule(steps=st.integers(1, 5))
    def learn(self, steps):
        self.step += steps

    @rule(lost=st.integers(1, 10))
    def another_learner_takes_over(self, lost):
        self.redis.incr(RunKeys(self.run_id).fence)
        self.epoch += 1
        self.step = max(0, self.step - lost)

    @precondition(lambda self: self.epoch > 0)
    @rule()
    def a_replaced_learner_cannot_mark(self):
        with pytest.raises(FencedError):
            store.mark_applied(self.redis, self.run_id, 1, 0, self.epoch - 1)

    @rule()
    def nobody_marks_what_does_not_exist(self):
        with pytest.raises(LookupError):
            store.mark_applied(self.redis, self.run_id, len(self.targets) + 1, self.step, self.epoch)

    @invariant()
    def documents_agree_with_the_model(self):
        document = entropy_target_of(self.redis, self.run_id)
        assert (document.generation, document.target) == (len(self.targets), self.targets[-1])
        assert document.source == ("configuration" if document.target is None else "api")
        applied = store.read_applied(self.redis, self.run_id)
        assert (applied and (applied.generation, applied.step)) == self.applied
        events = fetch(self.redis, store.history_read(self.run_id, 10_000))
        changed = [(event.generation, event.target) for event in reversed(events) if event.event == "changed"]
        assert changed == list(enumerate(self.targets, start=1))
        assert {event.generation for event in events if event.event == "superseded"} == self.superseded


def test_the_entropy_target_protocol_holds_in_any_order(redis, run_id):
    TargetProtocol.redis, TargetProtocol.prefix = redis, run_id
    run_state_machine_as_test(
        TargetProtocol, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )
