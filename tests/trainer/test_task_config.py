"""Custom tasks, data sets and mixtures: what is refused before anything starts, and the error messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import TaskConfig
from trainer.config.load import load_config, validate_config
from trainer.errors import ScopeError
from trainer.tasks import make_task


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"name": "dataset"}, "needs task.dataset.train"),
        (
            {"name": "dataset", "dataset": {"train": "x.jsonl"}, "verifier": {"kind": "http"}},
            "needs task.verifier.url",
        ),
        (
            {"name": "dataset", "dataset": {"train": "x.jsonl"}, "verifier": {"kind": "function"}},
            "needs task.verifier.function",
        ),
        ({"name": "mixture"}, "at least one part"),
        ({"name": "countdown", "mixture": [{"name": "countdown"}]}, "needs task.name=mixture"),
        ({"name": "mixture", "mixture": [{"name": "mixture"}]}, "cannot be a mixture itself"),
        ({"verifier": {"url": "ftp://x"}}, "task.verifier.url"),
        ({"verifier": {"function": "no_colon"}}, "task.verifier.function"),
        ({"reward": {"format_weight": 1.5}}, "task.reward.format_weight"),
    ],
)
def test_an_incomplete_task_is_refused_with_what_is_missing(task: dict[str, object], message: str) -> None:
    with pytest.raises(ScopeError, match=message):
        validate_config({"task": task})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TaskConfig(name="countdwn"), "Nearest valid names: countdown"),
        (TaskConfig(name="no_such_module_of_mine:Sums"), "there is no module 'no_such_module_of_mine'"),
        (TaskConfig(name="json:Sums"), "json has no Sums"),
        (TaskConfig(name="builtins:str"), "gives a str, which is not a task"),
        (
            TaskConfig(name="my:Task", folder="/no/such/folder"),
            "task.folder='/no/such/folder' is not a folder",
        ),
    ],
)
def test_a_task_that_there_is_not_is_refused(config: TaskConfig, message: str) -> None:
    with pytest.raises(ScopeError, match=message):
        make_task(config)


def test_options_are_set_whole_or_one_by_one_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("task:\n  options: {a: 1}\n")
    assert load_config(path, ["task.options.b=two"]).task.options == {"a": 1, "b": "two"}
    assert load_config(path, ["task.options={c: [1, 2]}"]).task.options == {"c": [1, 2]}
    with pytest.raises(ScopeError, match="whole mapping"):
        load_config(path, ["task.reward={format_weight: 0.5}"])
