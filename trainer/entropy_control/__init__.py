"""Entropy control laws, one file each, selected by `entropy_control.kind`."""

from trainer.config import EntropyControlConfig
from trainer.entropy_control.aepo_v1 import BangBangController
from trainer.entropy_control.base import NEUTRAL, Actuators, Controller
from trainer.entropy_control.fixed import FixedController
from trainer.entropy_control.mirrored import MirroredController
from trainer.entropy_control.paper import PaperController
from trainer.entropy_control.split_range import SplitRangeController

__all__ = ["NEUTRAL", "Actuators", "Controller", "make_controller"]


def make_controller(config: EntropyControlConfig, *, max_staleness: int) -> Controller:
    """The controller that `entropy_control` configures. max_staleness: `pipeline.max_staleness`, learner steps."""
    law = _law(config, max_staleness)
    return law if config.samples == "positives" else MirroredController(law)


def _law(config: EntropyControlConfig, max_staleness: int) -> Controller:
    match config.kind:
        case "none":
            return FixedController()
        case "paper":
            return PaperController(config.paper)
        case "aepo_v1":
            return BangBangController(config.aepo_v1)
        case "split_range":
            return SplitRangeController(config.split_range, max_staleness=max_staleness)
