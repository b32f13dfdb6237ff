"""A resumption: what may change, what is refused before anything starts, and what it leaves as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from redis import Redis

from services.cli import main
from services.driver.open_run import new_run, open_run, reopen_run
from services.driver.recovery import check_recoverable
from services.driver.resumption import FinishedRun
from services.driver.unbegun import begin, mark_begun
from services.recorded.saved_state import FILE as STATE_FILE
from services.redis.keys import RunKeys
from services.results.evaluations import EVALUATIONS, Evaluations
from services.run.directory import CONFIG_FILE, MODEL_FILE, RunDirectory
from services.run.resumption import RULES, changes, rules
from services.run.state import RunSpec
from tests.support.repository import QUICKSTART
from tests.support.runs.checkpoints import write
from trainer.checkpoint.store import CheckpointStore
from trainer.config import RunConfig
from trainer.config.fields import describe_fields
from trainer.config.load import default_config, load_config
from trainer.errors import ScopeError

STEPS = 40
OFF = ("control_plane.enabled=false", "ray.dashboard=false")


def unlock(path: Path) -> None:
    """End the process that drove the run."""
    (path / ".lock").unlink()


def begun(folder: Path, *overrides: str) -> Path:
    """The directory of a run that was stopped at step 20 of `STEPS`."""
    settings = [f"runs_dir={folder}", f"steps={STEPS}", *OFF, *overrides]
    path = new_run(QUICKSTART, settings, "main", replace=False).path
    for step in (10, 20):
        write(CheckpointStore(path / "checkpoints", keep=3), step)
    mark_begun(path)
    unlock(path)
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begun(tmp_path_factory.mktemp("original"))


@pytest.fixture
def run(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `original` for one test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Path(shutil.copytree(original, tmp_path / "main"))


@pytest.fixture
def finished(run: Path) -> Path:
    """The directory of a run that has done everything."""
    write(CheckpointStore(run / "checkpoints", keep=3), STEPS)
    evaluations = Evaluations(run / EVALUATIONS)
    for step in (0, STEPS):
        evaluations.add(step, [1, 2, 3], RunConfig().evaluation)
    (run / "report.json").write_text(json.dumps({"steps": STEPS, "wall_seconds": 712.0}))
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    return run


def content(path: Path) -> dict[str, bytes]:
    """Every file of a directory."""
    return {
        str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"
    }


def refusal(path: Path, *overrides: str) -> str:
    """Why a resumption is refused; nothing in the directory has changed by then."""
    before = content(path)
    with pytest.raises(ScopeError) as caught:
        reopen_run(path, list(overrides))
    assert not isinstance(caught.value, FinishedRun)
    assert content(path) == before
    (path / ".lock").unlink(missing_ok=True)
    return str(caught.value)


def test_every_field_has_one_rule_and_every_rule_a_field() -> None:
    named = [field for rule in RULES for field in rule.fields]
    assert sorted(named) == sorted(field.path for field in describe_fields())


def test_a_field_without_a_rule_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = rules()
    monkeypatch.setattr(
        "services.run.resumption.rules", lambda: {k: v for k, v in known.items() if k != "steps"}
    )
    (change,) = changes(RunConfig(), default_config(["steps=7"]))
    assert not change.allowed


@pytest.mark.parametrize(
    ("override", "before"),
    [
        ("seed=2", "1"),
        ("task.name=countdown_cot", "'countdown'"),
        ("task.seed=18", "17"),
        ("task.heldout=64", "512"),
        ("task.max_number=12", "20"),
        ("task.options={a: 1}", "{}"),
        ("task.dataset.train=gsm8k", "None"),
        ("task.dataset.prompt_field=prompt", "'problem'"),
        ("task.dataset.instruction=Think.", "'\\n\\nPlease"),
        ("task.verifier.kind=http", "'math'"),
        ("model.chat=off", "'auto'"),
        ("model.system_prompt=Answer: yes", "None"),
        ("model.hidden_size=64", "128"),
        ("model.max_length=128", "64"),
        ("warm_start.seed=4", "3"),
        ("warm_start.threads=1", "2"),
        ("rollout.prompts_per_step=24", "48"),
        ("rollout.base_samples=4", "8"),
        ("rollout.adaptive_samples=4", "8"),
        ("rollout.max_new_tokens=12", "16"),
        ("learner.precision=bf16", "'fp32'"),
        ("learner.offload=optimizer", "'none'"),
        ("learner.lora.rank=8", "0"),
        ("optimizer.weight_decay=0.1", "0.0"),
        ("optimizer.beta1=0.8", "0.9"),
        ("entropy_control.kind=none", "'split_range'"),
    ],
)
def test_a_fixed_field_is_refused_with_both_values_before_anything_starts(
    run: Path, override: str, before: str
) -> None:
    stored = load_config(run / CONFIG_FILE)
    field, _, value = override.partition("=")
    said = refusal(run, override)
    assert said.startswith(f"{field} = ")
    assert "is not allowed in a resumption" in said
    (change,) = changes(stored, load_config(run / CONFIG_FILE, [override]))
    assert repr(change.before) in said
    assert repr(change.before).startswith(before) or field.startswith(("rollout.", "model.", "warm_start."))
    assert value in said or value.startswith("{")


def test_every_refused_change_has_its_own_paragraph(run: Path) -> None:
    assert len(refusal(run, "seed=2", "steps=80", "model.layers=2").split("\n\n")) == 2


def test_a_configuration_that_was_edited_in_the_directory_is_refused_too(run: Path) -> None:
    config = load_config(run / CONFIG_FILE)
    spec = RunSpec(
        run_id="main", config=config.model_dump(mode="json"), config_hash="h", started_at=1.0, versions={}
    )
    saved = {"saved_at": 1.0, "run_id": "main", "strings": {"spec": spec.model_dump_json()}}
    (run / STATE_FILE).write_text(json.dumps(saved))
    text = (run / CONFIG_FILE).read_text()
    assert "seed: 1\n" in text
    (run / CONFIG_FILE).write_text(text.replace("seed: 1\n", "seed: 2\n", 1))
    assert "seed = 2 is not allowed in a resumption: the run has 1" in refusal(run)


def test_what_may_change_is_said_and_kept_once_a_step_is_made(run: Path) -> None:
    stored = (run / CONFIG_FILE).read_bytes()
    overrides = ["steps=80", "optimizer.learning_rate=5e-5", "learner.micro_batch_tokens=4096"]
    directory = reopen_run(run, overrides)
    assert directory.notes[0].startswith("steps was 40 and is 80 from here on (not below")
    assert [note.partition(" ")[0] for note in directory.notes[1:3]] == [
        "optimizer.learning_rate",
        "learner.micro_batch_tokens",
    ]
    assert (run / CONFIG_FILE).read_bytes() == stored, "the resumption may still fail"
    begin(directory)
    assert load_config(run / CONFIG_FILE) == directory.config
    assert directory.config.steps == 80


def test_another_law_and_another_regularizer_are_allowed_and_say_what_is_left_out(run: Path) -> None:
    overrides = ["entropy_control.kind=paper", "entropy_control.samples=negatives", "regularizer.kind=dcpo"]
    law, samples, regularizer = reopen_run(run, overrides).notes[:3]
    assert law.startswith(
        "entropy_control.kind was 'split_range' and is 'paper' from here on (the state of the"
    )
    assert "begins at the temperature in force" in law
    assert "sampled for the old value" in samples
    assert "the state of the previous regularizer is left out" in regularizer


def test_a_change_that_adds_or_removes_adaptive_rollouts_is_refused_with_the_reason(run: Path) -> None:
    said = refusal(run, "entropy_control.kind=none")
    assert "the run has 'split_range', and a change from or to none adds or removes adaptive rollouts" in said


@pytest.mark.parametrize("override", ["redis.server_binary=/bin/false", "evaluation.problems=100000"])
def test_a_resumption_that_a_check_refuses_leaves_the_configuration_as_it_was(
    run: Path, override: str
) -> None:
    assert override.partition("=")[0] in refusal(run, override)


def test_a_finished_run_says_so_and_stays_as_it_is(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(finished)
    assert main(["train", "--resume", str(finished)]) == 0
    said = capsys.readouterr().out
    assert "the run main is finished: all 40 learner steps" in said
    assert f"scope train --resume {finished} --set steps=80" in said
    assert content(finished) == before


def test_a_retried_job_whose_run_is_finished_succeeds(finished: Path) -> None:
    with pytest.raises(FinishedRun):
        open_run(QUICKSTART, [f"runs_dir={finished.parent}", f"steps={STEPS}", *OFF], "main")


def test_a_finished_run_refuses_changes_that_no_step_would_use(finished: Path) -> None:
    assert "Also raise steps above 40" in refusal(finished, "optimizer.learning_rate=1e-5")


def test_a_finished_run_is_trained_longer(finished: Path) -> None:
    assert reopen_run(finished, ["steps=41"]).config.steps == 41


@pytest.mark.parametrize("lacking", ["report.json", EVALUATIONS, "model"])
def test_a_run_whose_end_was_cut_off_is_not_finished(finished: Path, lacking: str) -> None:
    path = finished / lacking
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert reopen_run(finished, []).resumed


@pytest.mark.parametrize("steps", [1, 19])
def test_steps_below_those_made_are_refused(run: Path, steps: int) -> None:
    said = refusal(run, f"steps={steps}")
    assert f"steps = {steps} is not allowed" in said
    assert "checkpoint of step 20" in said


@pytest.mark.parametrize(
    "name",
    [
        "step-00000160.bak",
        "step-latest",
        "step-12 (copy)",
        "step-",
        "step-0000002",
        "step-000000030",
        "step-00000030.tar",
        "step-\N{ARABIC-INDIC DIGIT ONE}0000030",
        "notes.txt",
        "step--0000001",
    ],
)
@pytest.mark.parametrize("kind", ["directory", "file", "broken link"])
def test_what_people_put_beside_checkpoints_is_left_alone(run: Path, name: str, kind: str) -> None:
    there = run / "checkpoints" / name
    if kind == "directory":
        (there / "engine").mkdir(parents=True)
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to("/nowhere")
    store = CheckpointStore(run / "checkpoints", keep=2)
    assert store.steps == [10, 20]
    assert reopen_run(run, []).resumed
    write(store, 30)
    assert store.newest() == run / "checkpoints" / "step-00000030"
    assert store.steps == [20, 30]
    assert there.is_symlink() or there.exists()


@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_a_checkpoint_is_written_where_something_else_has_its_name(run: Path, kind: str) -> None:
    there = run / "checkpoints" / "step-00000030"
    there.write_text("mine") if kind == "file" else there.symlink_to("/nowhere")
    store = CheckpointStore(run / "checkpoints", keep=3)
    assert store.steps == [10, 20]
    assert store.newest_step() == 20
    write(store, 30)
    assert store.newest() == there
    assert (run / "checkpoints" / "not-a-checkpoint-step-00000030").is_symlink() == (kind != "file")


DAMAGE = {
    "engine/rank-1.pt has another content": lambda path: (path / "engine" / "rank-1.pt").write_bytes(b"x"),
    "engine/rank-0.pt cannot be read": lambda path: (path / "engine" / "rank-0.pt").unlink(),
    "state.json has another content": lambda path: (path / "state.json").write_text("{}"),
    "manifest.json cannot be read": lambda path: (path / "manifest.json").unlink(),
    "manifest.json is damaged": lambda path: (path / "manifest.json").write_bytes(b"\xff{"),
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_falling_back_from_a_damaged_checkpoint_is_said(run: Path, redis: Redis, fault: str) -> None:
    redis.set(RunKeys("main").fence, 3)
    DAMAGE[fault](run / "checkpoints" / "step-00000020")
    (note,) = check_recoverable(RunDirectory(run, "main", RunConfig(), resumed=True), redis)
    assert note.startswith(f"the checkpoint step-00000020 is damaged: {fault}")
    assert note.endswith("the run continues from step-00000010 instead")


def test_without_a_whole_checkpoint_the_fault_of_each_is_named(run: Path, redis: Redis) -> None:
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "engine" / "rank-0.pt").unlink()
    with pytest.raises(ScopeError, match=r"step-00000020: engine/rank-0.pt cannot be read .*step-00000010"):
        check_recoverable(RunDirectory(run, "main", RunConfig(), resumed=True), redis)


def test_a_renamed_directory_is_refused_with_its_name(run: Path) -> None:
    (run / STATE_FILE).write_text(json.dumps({"saved_at": 1.0, "run_id": "main"}))
    moved = run.rename(run.with_name("other"))
    assert "began under the id 'main'" in refusal(moved)
    moved.parent.joinpath("deeper").mkdir()
    assert reopen_run(moved.rename(moved.parent / "deeper" / "main"), []).run_id == "main"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (CONFIG_FILE, "stps: 3\n", "is not one of this version: stps is not a field"),
        (CONFIG_FILE, "steps: [\n", "is not valid YAML"),
        (CONFIG_FILE, "rollout: {base_temperature: 3.0}\n", "rollout.base_temperature = 3.0"),
        ("format.json", "{", "format.json"),
        ("format.json", "[]", "format.json"),
        (EVALUATIONS, "{", EVALUATIONS),
    ],
)
def test_a_damaged_file_of_the_directory_is_named(finished: Path, file: str, text: str, said: str) -> None:
    (finished / file).write_text(text)
    assert said in refusal(finished)


def test_a_run_that_is_being_driven_is_refused(run: Path) -> None:
    reopen_run(run, [])
    with pytest.raises(ScopeError, match="already driven by another process"):
        reopen_run(run, ["steps=80"])


@pytest.fixture
def with_model(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a run that began with a model of its own, in `tmp_path/model`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shutil.copytree(tiny_model_dir, tmp_path / "model")
    return begun(tmp_path, f"model.path={tmp_path / 'model'}")


def test_a_model_that_moved_is_found_at_its_new_place(with_model: Path) -> None:
    moved = (with_model.parent / "model").rename(with_model.parent / "elsewhere")
    assert "model.path=" in refusal(with_model)
    directory = reopen_run(with_model, [f"model.path={moved}"])
    assert directory.model is not None
    assert directory.model.directory == moved
    begin(directory)
    assert json.loads((with_model / MODEL_FILE).read_text())["directory"] == str(moved)


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"]
)
def test_another_model_is_refused_with_what_differs(with_model: Path, file: str) -> None:
    changed = with_model.parent / "model" / file
    if file.endswith(".json"):
        changed.write_text(json.dumps(json.loads(changed.read_text())))
    else:
        changed.write_bytes(changed.read_bytes() + b" " if changed.exists() else b"{{ messages }}")
    assert (
        f"holds another model than the run began with ({str(with_model.parent / 'model')!r}): {file}"
        in refusal(with_model)
    )


def test_a_model_in_place_of_the_built_in_one_is_refused(run: Path, tiny_model_dir: Path) -> None:
    assert "the run began with the built-in model" in refusal(run, f"model.path={tiny_model_dir}")


def test_the_built_in_model_in_place_of_another_is_refused(with_model: Path) -> None:
    assert "model.path = None is not allowed" in refusal(with_model, "model.path=null")


def test_lengths_may_change_with_a_model_of_ones_own(with_model: Path) -> None:
    assert reopen_run(with_model, ["rollout.max_new_tokens=12"]).config.rollout.max_new_tokens == 12
