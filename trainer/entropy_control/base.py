"""The interface of an entropy control law: from the measured policy entropy and its target to the next actuators.

The state of a controller is a small dictionary, stored in the checkpoint; `update` has no other side effects. It runs
once per step; the decision of step n acts on rollouts that begin at step n + 1 or later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Limit = Literal["none", "heating", "cooling", "starved"]


@dataclass(frozen=True)
class Actuators:
    """What generators and the loss use in the next step."""

    temperature: float
    """sampling temperature of adaptive rollouts"""
    alpha: float
    """weight of the auxiliary loss"""
    surprisal_exponent: float = 0.0
    """rho: positives are weighted by (-log pi)^rho"""
    limit: Limit = "none"
    """the direction in which the law is at the limit of its actuators; starved: it would sample hotter, but too few
    rollouts succeed there"""

    @property
    def saturated(self) -> bool:
        """Whether the actuators are at a limit."""
        return self.limit != "none"


NEUTRAL = Actuators(temperature=1.0, alpha=0.0)
"""the actuators without entropy control"""


class Controller(Protocol):
    """The interface of a control law."""

    @property
    def actuators(self) -> Actuators:
        """The newest decision; before the first measurement, the neutral one."""
        ...

    def update(
        self, entropy: float, entropy_target: float, *, positives: int, rollouts: int, error: float = 0.0
    ) -> Actuators:
        """Decide from a step's entropy and target, nats per token, and its adaptive rollouts, of which some succeeded.

        error: standard error of the entropy, nats per token; not finite where it is unknown. A non-finite entropy
        repeats the last decision.
        """
        ...

    def state(self) -> dict[str, float]:
        """State for the checkpoint."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpointed state of the same law, whose limits may have changed since."""
        ...

    def take_over(self, temperature: float) -> None:
        """Begin where another law ends: with its temperature, as far as this law's limits allow, and else anew.

        A law gives its temperature as `temperature` in its state. Before the first measurement.
        """
        ...
