"""From step records to the run's report: records are read back as written, and the plot is drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import matplotlib.image
import msgspec
import numpy as np
import pytest
import ray.util.metrics
from matplotlib.figure import Figure
from redis import Redis

from services.records.sinks import JsonLines, RayMetrics, read_records
from services.records.step_record import StepRecord, flatten
from services.results.evaluations import Evaluations
from services.results.report import write_report
from services.results.report_plot import plot
from services.run.directory import RunDirectory
from tests.support.step_records import GROUPS, STEPS, record
from trainer.config import RunConfig


def write(path: Path, *records: StepRecord) -> None:
    """Write as one incarnation of the learner."""
    sink = JsonLines(path)
    for one in records:
        sink.write(one)
    sink.close()


def test_records_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    records = [record(0, alarms=["a\nb"]), record(1, entropy_target=None, adaptive_reward=None, staleness={})]
    write(path, *records)
    assert read_records(path) == records
    assert len(path.read_text().splitlines()) == 2
    assert read_records(tmp_path / "absent.jsonl") == []


def test_a_record_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "steps.jsonl")
    sink.write(record(0))
    assert read_records(tmp_path / "steps.jsonl") == [record(0)]
    sink.close()


def test_a_number_that_is_not_finite_is_valid_json_and_comes_back_as_nan(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    write(path, record(0, entropy=math.nan, gradient_norm=math.inf, weight_load_seconds=None))
    document = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert document["entropy"] is None
    (back,) = read_records(path)
    assert math.isnan(back.entropy)
    assert math.isnan(back.gradient_norm)
    assert back.weight_load_seconds is None


def test_after_a_resume_only_the_surviving_lineage_is_left(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    dead = [record(step) for step in range(6)]
    again = [record(step, lineage=2) for step in (3, 4)]
    write(path, *dead)
    write(path, *again)
    assert read_records(path) == [*dead[:3], *again]
    assert read_records(path, surviving=False) == [*dead, *again]


@pytest.mark.parametrize("cut", [1, 40, 600])
def test_a_line_cut_short_by_a_crash_costs_that_record_only(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "steps.jsonl"
    write(path, record(0), record(1))
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_records(path) == [record(0)]
    write(path, record(1, lineage=2))
    assert read_records(path) == [record(0), record(1, lineage=2)]


def test_flattening_keeps_every_finite_number_under_its_name() -> None:
    flat = flatten(msgspec.structs.asdict(record(3, entropy=math.nan, saturated=True, entropy_target=None)))
    assert flat["step"] == 3
    assert flat["staleness/1"] == 38
    assert flat["generator_busy_share/adaptive"] == 0.8
    assert flat["saturated"] == 1
    assert not {"entropy", "entropy_target", "alarms"} & flat.keys()


def test_a_series_that_a_record_lacks_does_not_keep_its_last_value_in_rays_metrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: dict[tuple[str, str], float] = {}

    class Seen(ray.util.metrics.Gauge):
        def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
            assert value is not None
            assert tags is not None
            shown[self.info["name"].removeprefix("scope_"), tags["key"]] = value

    monkeypatch.setattr(ray.util.metrics, "Gauge", Seen)
    sink = RayMetrics("a")
    sink.write(record(0, staleness={0: 10, 3: 2}, entropy=0.5))
    assert (shown["staleness", "3"], shown["entropy", ""]) == (2, 0.5)
    sink.write(record(1, staleness={0: 12}, entropy=math.nan, evaluation=None, mixture_shares={"0": 1.0}))
    assert (shown["staleness", "0"], shown["staleness", "3"]) == (12, 0)
    assert all(
        math.isnan(shown[series])
        for series in (("entropy", ""), ("evaluation", "pass@1"), ("mixture_shares", "1"))
    )
    sink.write(record(2, entropy=0.4))
    assert (shown["staleness", "1"], shown["staleness", "3"], shown["entropy", ""]) == (38, 0, 0.4)


@pytest.fixture
def directory(tmp_path: Path, run_id: str) -> RunDirectory:
    return RunDirectory(tmp_path, run_id, RunConfig(steps=STEPS), resumed=False)


def report(
    directory: RunDirectory, redis: Redis, evaluations: Evaluations | None = None, steps_done: int = STEPS
) -> dict[str, Any]:
    evaluations = evaluations or Evaluations(directory.path / "evaluations.json")
    write_report(directory, evaluations, redis, steps_done=steps_done, wall_seconds=75.0)
    text = (directory.path / "report.json").read_text()
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_the_report_sums_up_the_run(directory: RunDirectory, redis: Redis) -> None:
    write(directory.path / "steps.jsonl", *(record(step) for step in range(STEPS)))
    evaluations = Evaluations(directory.path / "evaluations.json")
    config = directory.config.evaluation
    evaluations.add(0, [4] * 100, config)
    evaluations.add(STEPS, [16] * 100, config)
    found = report(directory, redis, Evaluations(directory.path / "evaluations.json"))

    assert found["config_hash"] == directory.config_hash
    assert found["versions"]["ray"].startswith("2.")
    assert (found["steps"], found["steps_configured"], found["wall_seconds"]) == (STEPS, STEPS, 75.0)
    start, end = found["evaluation"]["start"], found["evaluation"]["end"]
    assert (start["step"], end["step"], start["problems"], start["samples"]) == (0, STEPS, 100, 32)
    assert start["pass@1"]["mean"] == pytest.approx(4 / 32)
    assert start["pass@16"]["mean"] == pytest.approx(1 - math.comb(28, 16) / math.comb(32, 16))
    assert end["pass@1"] == {"mean": 0.5, "low95": 0.5, "high95": 0.5}
    assert found["evaluation"]["difference"]["pass@1"]["low95"] == pytest.approx(0.375)
    entropy = found["entropy"]
    assert (entropy["start"], entropy["entropy_target"]) == (0.7, 0.4)
    assert entropy["entropy_target_over_start"] == pytest.approx(4 / 7)
    assert entropy["last_third_mean"] == pytest.approx(0.4)
    assert entropy["last_third_mean_over_entropy_target"] == pytest.approx(1.0)
    assert entropy["last_third_saturated_share"] == 0
    assert found["throughput"]["median_step_seconds"] == 2.0
    assert found["throughput"]["trained_tokens_per_second"] == 500
    assert found["throughput"]["learner_tokens_per_second"] == 1000
    assert found["throughput"]["generator_tokens_per_second"] == {"adaptive": 200.0, "base": 100.0}
    assert found["time_shares"]["learner"]["learn"] == pytest.approx(0.5)
    assert found["time_shares"]["learner"]["wait"] == pytest.approx(0.25)
    assert found["time_shares"]["base-generator"]["sampling"] == pytest.approx(0.9)
    assert found["staleness"] == {"0": 10 * STEPS, "1": 38 * STEPS}
    assert found["queue"]["consumed"] == GROUPS * STEPS
    assert found["queue"].keys() >= {"produced", "acknowledged", "duplicates_refused", "dead_lettered"}
    picture = matplotlib.image.imread(directory.path / "report.png")
    assert picture.shape[0] > 600
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 0.05, "the picture is empty"


def test_errors_of_a_moving_entropy_target_are_taken_step_by_step(
    directory: RunDirectory, redis: Redis
) -> None:
    moving = [record(s, entropy_target=0.7 - 0.01 * s, entropy=0.72 - 0.01 * s) for s in range(STEPS)]
    write(directory.path / "steps.jsonl", *moving)
    entropy = report(directory, redis)["entropy"]
    assert entropy["entropy_target"] == pytest.approx(0.41)
    assert entropy["last_third_mean_error"] == pytest.approx(0.02)


def test_the_picture_of_the_entropy_target_follows_the_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    targets = [None, *(0.7 - 0.01 * s for s in range(1, STEPS))]
    records = [record(s, entropy_target=target) for s, target in enumerate(targets)]
    drawn: dict[str, np.ndarray] = {}

    def keep(figure: Figure, *_: object, **__: object) -> None:
        drawn.update({str(line.get_label()): np.asarray(line.get_ydata()) for line in figure.axes[0].lines})

    monkeypatch.setattr(Figure, "savefig", keep)
    plot(tmp_path / "report.png", "r", records, [])
    np.testing.assert_allclose(drawn["entropy target"], [math.nan, *targets[1:]])


def test_steps_that_were_taken_back_and_not_done_again_are_not_reported(
    directory: RunDirectory, redis: Redis
) -> None:
    write(directory.path / "steps.jsonl", *(record(step) for step in range(STEPS)))
    assert report(directory, redis, steps_done=STEPS - 1)["steps"] == STEPS - 1


def test_a_run_that_ended_before_its_first_step_still_gets_a_report(
    directory: RunDirectory, redis: Redis
) -> None:
    found = report(directory, redis)
    assert found["steps"] == 0
    assert found["entropy"] == found["throughput"] == found["evaluation"] == {}
    assert not (directory.path / "report.png").exists()


def test_a_step_whose_entropy_could_not_be_measured_does_not_spoil_the_report(
    directory: RunDirectory, redis: Redis
) -> None:
    nan = math.nan
    records = [
        record(0),
        record(1, entropy=nan, generator_entropy=nan, alarms=["entropy is not finite: temperature held"]),
        record(2, entropy=0.5),
    ]
    write(directory.path / "steps.jsonl", *records)
    found = report(directory, redis)
    assert (found["entropy"]["end"], found["entropy"]["lowest"]) == (0.5, 0.5)
    assert found["alarms"] == {"entropy is not finite: temperature held": 1}


def test_a_run_resumed_without_entropy_control_still_gets_a_report(
    directory: RunDirectory, redis: Redis
) -> None:
    plain = {
        "entropy_target": None,
        "adaptive_reward": None,
        "sampling_temperature": None,
        "generator_tokens_per_second": {"base": 100.0},
        "generator_busy_share": {"base": 0.9},
        "generator_loading_share": {"base": 0.0},
    }
    write(directory.path / "steps.jsonl", *(record(s, **(plain if s > 24 else {})) for s in range(STEPS)))
    evaluations = Evaluations(directory.path / "evaluations.json")
    evaluations.add(0, [4] * 100, directory.config.evaluation)
    evaluations.add(STEPS, [16] * 50, directory.config.evaluation)
    found = report(directory, redis, evaluations)
    assert found["entropy"]["last_third_mean_error"] == pytest.approx(0)
    assert found["evaluation"]["difference"] == {}, "different problems have no difference"
    assert found["throughput"]["generator_tokens_per_second"]["base"] == 100


def test_an_evaluation_done_again_replaces_the_older_one(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "evaluations.json")
    config = RunConfig().evaluation
    for correct in ([0, 0], [32, 0]):
        evaluations.add(5, correct, config)
    assert [e.correct for e in Evaluations(tmp_path / "evaluations.json").all] == [[32, 0]]
    assert "pass@1 0.500" in evaluations.line(5)
