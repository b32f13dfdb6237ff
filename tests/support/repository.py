"""Paths of the repository and of its quickstart."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "deploy" / "configs" / "countdown-cpu.yaml"
