"""Fields that hold a path: `~` is the home directory, and what is easily there by mistake is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.checks.machine import check_disk
from services.checks.sizing import built_in_shape
from services.compare.plan import make_plan
from services.driver.open_run import new_run
from services.redis.embedded import find_server
from tests.support.repository import QUICKSTART
from trainer.config import RedisConfig
from trainer.config.load import default_config, dump_yaml, load_config
from trainer.config.paths import expanded
from trainer.errors import ScopeError
from trainer.starting_model.find import find_starting_model
from trainer.tasks import make_task

FIELDS = (
    "runs_dir",
    "model.path",
    "warm_start.cache_dir",
    "redis.server_binary",
    "checkpoint.mirror",
    "task.folder",
    "task.dataset.train",
    "task.dataset.heldout",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory; commands run in another one."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("$HOME/runs", r"contains \$HOME"),
        ("${HOME}/runs", r"contains \$\{HOME\}"),
        ("/data/$USER", r"contains \$USER"),
        ("a${X:-b}", r"contains \$\{X:-b\}"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("runs\n", "white space"),
        (" runs", "white space"),
        ("runs\t", "white space"),
        ("ru\x00ns", "control character"),
        ("ru\nns", "control character"),
        ("ru\x1b[2Jns", "control character"),
        ("ru\x9bns", "control character"),
    ],
)
def test_a_path_that_is_there_by_mistake_is_refused_in_a_sentence(field: str, path: str, said: str) -> None:
    with pytest.raises(ScopeError, match=f"^{field}: .*{said}") as caught:
        default_config([f"{field}={path}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["runs", "/a b/c", "price$5", "100%", "~", "~/runs", "a~b", "ünïcode/路径", "owner/name", "-", "a\\b"],
)
def test_a_path_stays_as_it_is_written(path: str, tmp_path: Path) -> None:
    config = default_config([f"runs_dir={path}"])
    assert config.runs_dir == path
    (tmp_path / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config


def test_a_run_is_made_below_the_home_directory(home: Path) -> None:
    off = ["control_plane.enabled=false", "ray.dashboard=false"]
    directory = new_run(QUICKSTART, ["runs_dir=~/runs", *off], "main", replace=False)
    assert directory.path == home / "runs" / "main"
    assert list(Path.cwd().iterdir()) == []


def test_a_comparison_is_made_below_the_home_directory(home: Path) -> None:
    plan = make_plan(QUICKSTART, ["grpo"], seeds=1, settings=["runs_dir=~/runs"], in_process=True)
    assert plan.out.parent == home / "runs"


def test_disk_space_is_that_of_the_home_directory(home: Path) -> None:
    (home / "file").touch()
    config = default_config(["runs_dir=~/file"])
    with pytest.raises(ScopeError, match=f"{home / 'file'} is not a directory"):
        check_disk(built_in_shape(config, 100), config)


def test_a_model_a_program_and_a_folder_are_found_below_the_home_directory(home: Path) -> None:
    (home / "model").mkdir()
    (home / "model" / "config.json").write_text("{}")
    found = find_starting_model(default_config(["model.path=~/model"]).model)
    assert found is not None
    assert found.directory == home / "model"
    (home / "server").symlink_to(find_server(RedisConfig()))
    assert find_server(RedisConfig(server_binary="~/server")) == home / "server"
    (home / "mine.py").write_text("def make(config):\n    raise ValueError('found it')\n")
    with pytest.raises(ScopeError, match="found it"):
        make_task(default_config(["task.name=mine:make", "task.folder=~"]).task)


def test_an_unknown_home_directory_is_named() -> None:
    with pytest.raises(ScopeError, match="~nobody-of-that-name/runs"):
        expanded("~nobody-of-that-name/runs")
