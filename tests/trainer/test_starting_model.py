"""Models by directory or hub id: found in the hub's cache, downloaded, checked before a run, and recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen3Config

from services.checks.doctor import examine
from services.checks.preflight import preflight_learning
from services.driver.open_run import new_run, reopen_run
from services.evaluation.models import find_model
from services.results.model_card import Exported, card
from services.run.directory import MODEL_FILE, RunDirectory
from tests.support.hub_cache import NAME, add_snapshot, serving
from tests.support.repository import ROOT
from trainer.config import ModelConfig, RunConfig
from trainer.config.load import config_hash, default_config
from trainer.errors import ScopeError
from trainer.starting_model.find import cached_starting_model, find_starting_model
from trainer.starting_model.identity import model_files
from trainer.starting_model.tiny_model import build_tokenizer
from trainer.starting_model.warm_start import cache_key
from trainer.tasks import make_task

FIRST, SECOND = "1" * 40, "2" * 40
PROGRAM = """
import sys
from trainer.config import ModelConfig
from trainer.errors import ScopeError
from trainer.starting_model.find import find_starting_model
try:
    print(find_starting_model(ModelConfig(path=sys.argv[1]), weights=len(sys.argv) == 2).directory)
except ScopeError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A model's configuration and tokenizer, and a placeholder for its weights."""
    task: Any = make_task(RunConfig().task)
    directory = tmp_path / "files"
    build_tokenizer(task.vocabulary, 64).save_pretrained(directory)
    config = Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, max_position_embeddings=64
    )
    config.save_pretrained(directory)
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty hub cache of a process started with HF_HOME and HF_HUB_OFFLINE=1."""
    path = tmp_path / "home" / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return path


def hub_model(revision: str | None = None, name: str = NAME) -> ModelConfig:
    return ModelConfig(path=name, revision=revision)


def test_a_snapshot_of_the_cache_is_found_offline_by_branch_tag_and_commit(cache: Path, files: Path) -> None:
    first = add_snapshot(cache, FIRST, files, branch="v1")
    second = add_snapshot(cache, SECOND, files)
    for revision, directory, commit in [
        (None, second, SECOND),
        ("v1", first, FIRST),
        (FIRST, first, FIRST),
    ]:
        found = find_starting_model(hub_model(revision))
        assert found is not None
        assert (found.directory, found.hub_id, found.commit) == (directory, NAME, commit)
        assert cached_starting_model(hub_model(revision)) == found
        assert (found.directory / "config.json").is_file()


def test_a_path_that_exists_wins_over_the_hub(
    cache: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_snapshot(cache, FIRST, files)
    (tmp_path / NAME).parent.mkdir()
    (tmp_path / NAME).symlink_to(files)
    monkeypatch.chdir(tmp_path)
    found = find_starting_model(hub_model())
    assert found is not None
    assert (found.directory, found.hub_id) == (files, None)
    with pytest.raises(ScopeError, match=r"model\.revision='main' is only for hub ids"):
        find_starting_model(hub_model("main"))


@pytest.mark.parametrize(
    "path", ["/nowhere", "./a/b", "../model", "a/b/c", "gpt2", "~/models/x", "-a/b", "a/b@c"]
)
def test_what_is_neither_a_directory_nor_a_hub_id_is_refused(path: str) -> None:
    with pytest.raises(
        ScopeError, match=r"has no config\.json\. Give a directory .* a hub id \(owner/name\)"
    ):
        find_starting_model(ModelConfig(path=path))


def test_what_the_cache_lacks_offline_is_named_with_what_to_do(cache: Path, files: Path) -> None:
    with pytest.raises(ScopeError) as caught:
        find_starting_model(hub_model("v2"))
    for words in (
        f"model.path={NAME!r}",
        "revision 'v2'",
        "HF_HUB_OFFLINE is set",
        str(cache),
        f"hf download {NAME} --revision v2",
    ):
        assert words in str(caught.value)
    (files / "config.json").unlink()
    add_snapshot(cache, FIRST, files)
    with pytest.raises(ScopeError, match=r"it has no config\.json"):
        find_starting_model(hub_model())


def test_a_revision_needs_a_path_and_is_no_part_of_a_warm_start() -> None:
    with pytest.raises(ScopeError, match=r"model\.revision='main' needs model\.path"):
        default_config(["model.revision=main"])
    with pytest.raises(ScopeError, match=r"model\.revision"):
        default_config([f"model.path={NAME}", "model.revision=../x"])
    config = RunConfig()
    pinned = config.model_copy(update={"model": config.model.model_copy(update={"revision": "main"})})
    assert config_hash(config) != config_hash(pinned)
    assert cache_key(config) == cache_key(pinned)


def find(home: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `find_starting_model` in a new process, because the hub library reads the environment at import."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_model_is_downloaded_once_and_its_settings_before_its_weights(files: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (files / "pytorch_model.bin").write_bytes(b"the same once more")
    snapshot = home / "hub" / f"models--{NAME.replace('/', '--')}" / "snapshots" / FIRST
    with serving(files, FIRST) as (endpoint, fetched):
        settings = find(home, endpoint, NAME, "settings")
        assert settings.stdout.strip() == str(snapshot), settings.stderr
        assert set(fetched) == {f.name for f in files.iterdir() if f.suffix not in (".safetensors", ".bin")}
        fetched.clear()
        assert find(home, endpoint, NAME).stdout.strip() == str(snapshot)
        assert fetched == ["model.safetensors"]
        assert find(home, endpoint, NAME).stdout.strip() == str(snapshot)
        assert fetched == ["model.safetensors"]
        unknown = find(home, endpoint, "someone/else")
        assert "model.path='someone/else' is not a local directory" in unknown.stderr
        assert "RepositoryNotFoundError" in unknown.stderr
    # The hub is offline: the cache is enough.
    assert find(home, endpoint, NAME).stdout.strip() == str(snapshot)


def test_weights_in_the_old_format_are_fetched_where_there_are_no_others(files: Path, tmp_path: Path) -> None:
    (files / "model.safetensors").rename(files / "pytorch_model.bin")
    with serving(files, FIRST) as (endpoint, fetched):
        found = find(tmp_path / "home", endpoint, NAME)
        assert Path(found.stdout.strip(), "pytorch_model.bin").read_bytes() == b"weights", found.stderr
    assert "pytorch_model.bin" in fetched


def settings(*more: str) -> list[str]:
    return [
        f"model.path={NAME}",
        "control_plane.enabled=false",
        "ray.dashboard=false",
        "evaluation.problems=8",
        *more,
    ]


def started(tmp_path: Path, run_id: str) -> RunDirectory:
    file = tmp_path / "run.yaml"
    file.write_text("steps: 1\n")
    return new_run(file, settings(f"runs_dir={tmp_path / 'runs'}"), run_id, replace=False)


def test_a_run_writes_down_its_model_and_resumes_with_that_commit(
    cache: Path, files: Path, tmp_path: Path
) -> None:
    first = add_snapshot(cache, FIRST, files)
    begun = started(tmp_path, "begun")
    record = json.loads((begun.path / MODEL_FILE).read_text())
    assert record.pop("files") == model_files(first)
    assert record == {"path": NAME, "revision": None, "commit": FIRST, "directory": str(first)}
    # The branch moves to another commit.
    add_snapshot(cache, SECOND, files)
    # Copies, because this process holds the lock of the run itself.
    same, other = (shutil.copytree(begun.path, tmp_path / "runs" / name) for name in ("same", "other"))
    resumed, new = reopen_run(same, []), started(tmp_path, "new")
    assert resumed.model == begun.model
    assert resumed.config_hash == begun.config_hash
    assert new.model is not None
    assert new.model.commit == SECOND
    with pytest.raises(ScopeError, match=r"model\.revision = 'main' is not allowed in a resumption"):
        reopen_run(other, ["model.revision=main"])


def test_a_run_of_a_model_that_cannot_be_had_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match=f"model.path='{NAME}'"):
        started(tmp_path, "begun")
    assert not (tmp_path / "runs").exists()


def test_the_card_says_which_commit_a_run_began_with() -> None:
    config = default_config([f"model.path={NAME}"])
    written = card(Exported("r", 1, config, "hash", [], [], FIRST))
    assert f"| starting model | `{NAME}` at commit `{FIRST}` |" in written
    assert f"\nbase_model: {NAME}\n---\n" in written
    assert "base_model" not in card(Exported("r", 1, RunConfig(), "hash", [], []))


def model_findings(*overrides: str) -> list[tuple[str, str]]:
    findings, _ = examine(default_config(settings(*overrides)))
    return [(f.level, f.text) for f in findings if f.field == "model.path"]


def test_the_doctor_downloads_nothing_and_says_what_a_run_would_do(
    cache: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((level, text),) = model_findings()
    assert (level, "HF_HUB_OFFLINE is set" in text) == ("error", True)
    with monkeypatch.context() as online:
        online.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        ((level, text),) = model_findings()
        assert (level, "scope train downloads it" in text) == ("warning", True)
        snapshot = add_snapshot(cache, FIRST, files)
        assert {level for level, _ in model_findings()} == {"ok"}
        assert any(str(snapshot) in text for _, text in model_findings())


def test_an_evaluation_takes_a_hub_id_with_or_without_a_revision(
    cache: Path, files: Path, tmp_path: Path
) -> None:
    first, second = add_snapshot(cache, FIRST, files, branch="v1"), add_snapshot(cache, SECOND, files)
    latest, tagged = find_model(NAME, tmp_path), find_model(f"{NAME}@v1", tmp_path)
    assert (latest.directory, latest.name, latest.run) == (second, "tiny-model", None)
    assert (tagged.directory, tagged.context()) == (first, 64)
    with pytest.raises(ScopeError, match=r"MODEL='someone/else' is not a local directory"):
        find_model("someone/else", tmp_path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"final_logit_softcapping": 30.0}, r"changes its logits \(final_logit_softcapping=30.0\)"),
        ({"logits_scaling": 8.0}, r"logits_scaling=8.0"),
        ({"model_type": "gemma2"}, "final_logit_softcapping=30.0"),
        ({"model_type": "cohere"}, "logit_scale=0.0625"),
        ({"model_type": "no-such-model"}, "transformers cannot read it"),
        ({"layer_types": ["sliding_attention"]}, "learner.share_prompts=false"),
    ],
    ids=["cap", "scale", "cap by default", "scale by default", "unknown", "windows"],
)
def test_a_model_that_the_learner_would_compute_wrongly_is_refused_before_a_run(
    files: Path, fields: dict[str, Any], words: str
) -> None:
    file = files / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(ScopeError, match=words):
        preflight_learning(default_config([f"model.path={files}", "evaluation.problems=8"]))


def test_a_scale_of_one_changes_nothing(files: Path) -> None:
    file = files / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"logits_scaling": 1.0}))
    preflight_learning(default_config([f"model.path={files}", "evaluation.problems=8"]))
