"""What is imported with the rewards: the generator module uses them and must not import torch with them."""

import subprocess
import sys

from tests.support.repository import ROOT


def test_rewards_are_imported_without_torch() -> None:
    code = (
        "import sys, trainer.rollouts.rewards; print([m for m in ('torch', 'deepspeed') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
