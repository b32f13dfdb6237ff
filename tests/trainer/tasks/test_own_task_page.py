"""docs/how-to/your-own-task.md: trains on and evaluates the files of its first section in one process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.repository import ROOT
from trainer.config.load import load_config
from trainer.in_process.run import InProcessRun
from trainer.starting_model.warm_start import cache_key, ensure_warm_start
from trainer.tasks import TaskWithSolutions, make_task

PAGE = ROOT / "docs" / "how-to" / "your-own-task.md"


@pytest.mark.timeout(300)
def test_the_task_of_the_page_warm_starts_trains_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = PAGE.read_text().partition("\n## A task in ten minutes\n")[2].partition("\n## ")[0]
    (program,), (config_text,) = (
        re.findall(f"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("python", "yaml")
    )
    assert len(program.splitlines()) <= 30
    (tmp_path / "reverse.py").write_text(program)
    (tmp_path / "run.yaml").write_text(config_text)
    monkeypatch.chdir(tmp_path)
    config = load_config("run.yaml", ["steps=2", "warm_start.threads=1"])
    task = make_task(config.task)
    assert isinstance(task, TaskWithSolutions)
    start = ensure_warm_start(config, tmp_path / "cache", lambda _: None)
    run = InProcessRun(config, start.path)
    assert len(list(run.steps())) == 2
    assert run.evaluate(2, samples=4).pass_at(1) > 0.05
    key = cache_key(config)
    longer = yaml.safe_load(config_text)["task"]["options"]["length"] + 1
    assert cache_key(load_config("run.yaml", [f"task.options.length={longer}"])) != key
    (tmp_path / "reverse.py").write_text(program + "\n")
    assert cache_key(config) != key
