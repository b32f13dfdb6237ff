"""The base class of the blocks of the configuration, and the types that several blocks use."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
SurprisalExponent = Annotated[
    float, Field(ge=0, le=8, allow_inf_nan=False, description="rho: positives are weighted by (-log pi)^rho")
]
RayResource = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=63)] | None


class Block(BaseModel):
    """Base class of every block: immutable; unknown fields are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, strict=True, allow_inf_nan=False
    )
