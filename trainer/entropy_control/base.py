"""What an entropy control law is: from the measured policy entropy and its target to the next actuators.

A controller is pure: its state is a small dictionary that goes into the checkpoint, and `update` has no side
effects beyond it. One decision a step; what step n decides acts on rollouts started from step n + 1 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Limit = Literal["none", "heating", "cooling"]


@dataclass(frozen=True)
class Actuators:
    """What generators and the loss use next."""

    temperature: float
    """of adaptive rollouts"""
    alpha: float
    """weight of the auxiliary term"""
    surprisal_exponent: float = 0.0
    """rho in the (-log pi)^rho weights of positives"""
    limit: Limit = "none"
    """which way the law asked for more than the actuators have"""

    @property
    def saturated(self) -> bool:
        """Whether the actuators are at a limit."""
        return self.limit != "none"


NEUTRAL = Actuators(temperature=1.0, alpha=0.0)
"""No regulariser."""


class Controller(Protocol):
    """The interface of a control law."""

    @property
    def actuators(self) -> Actuators:
        """The newest decision; before any measurement, the neutral one."""
        ...

    def update(self, entropy: float, entropy_target: float, *, positives: int) -> Actuators:
        """Decide from this step's entropy and its target (nats per token) and its number of positives.

        A non-finite entropy holds the last decision. Without positives nothing integrates.
        """
        ...

    def state(self) -> dict[str, float]:
        """State for the checkpoint."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpointed state."""
        ...
