"""The reason why an engine did not start is reported even when it occurred in another process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.inference.startup_error import TAIL_BYTES, last_error_written

LOG = """INFO: the engine begins
(EngineCore pid=1975) Traceback (most recent call last):
(EngineCore pid=1975)   File "/x/flashinfer.py", line 12, in <module>
(EngineCore pid=1975) ModuleNotFoundError: No module named 'flashinfer'
[rank0]: Warning: destroy_process_group() was not called
"""


def test_the_last_error_of_a_traceback_is_found(tmp_path: Path) -> None:
    log = tmp_path / "worker.err"
    log.write_text("ValueError: an older one\n" + "x" * TAIL_BYTES + "\n" + LOG)
    assert (
        last_error_written([log]) == "ModuleNotFoundError: No module named 'flashinfer' (more in worker.err)"
    )


@pytest.mark.parametrize("text", ["", "all is well\n", "The Error: of my ways\n"])
def test_a_log_without_a_traceback_has_none(tmp_path: Path, text: str) -> None:
    log = tmp_path / "worker.err"
    log.write_text(text)
    assert last_error_written([log]) is None


def test_an_error_that_points_elsewhere_is_passed_over(tmp_path: Path) -> None:
    out, err = tmp_path / "worker.out", tmp_path / "worker.err"
    out.write_text("(Worker pid=7) ERROR 11-26 22:58:50 [core.py:1330] ValueError: no such head size\n")
    err.write_text("RuntimeError: Engine core initialization failed. See root cause above.\n")
    assert last_error_written([err, out]) == "ValueError: no such head size (more in worker.out)"


def test_what_is_no_file_has_none() -> None:
    assert last_error_written([Path("/dev/null")]) is None


START = """
import asyncio, sys
from pathlib import Path
from services.inference.engine import SamplingEngine
from tests.support.generation.tiny import tiny_config
from trainer.rollouts.trajectory import PolicyVersion

config = tiny_config()
start = SamplingEngine.start(
    Path(sys.argv[1]), config.generators, role="base", max_length=64, seed=1, version=PolicyVersion(0, 0)
)
try:
    asyncio.run(start)
except RuntimeError as error:
    Path(sys.argv[2]).write_text(str(error))
"""


@pytest.mark.timeout(240)
def test_an_engine_that_does_not_start_says_why(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    (model / "model.safetensors").write_bytes(b"no weights")
    reason = tmp_path / "reason"
    with (tmp_path / "engine.out").open("w") as out, (tmp_path / "engine.err").open("w") as err:
        subprocess.run(
            [sys.executable, "-c", START, str(model), str(reason)], stdout=out, stderr=err, check=True
        )
    said = reason.read_text()
    assert "SafetensorError" in said
    assert "(more in engine." in said
