"""Limits of the inference engine, vLLM: a value beyond them would end the run when its engines sample.

One range holds for every sampler, so that a configuration that trains in one process also runs with engines.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

COLDEST, HOTTEST = 0.05, 2.0
"""lowest and highest sampling temperature; an evaluation may also be greedy"""
MOST_RESPONSES = 16384
"""responses to one prompt in one request"""
MOST_SEQUENCES = 2048
"""sequences that one engine decodes at once: the tokens of one of its forward passes, by default"""
MOST_SEEDS = 1 << 31
"""seeds are below it; an engine takes 32 bits, and the engines of a run have different ones"""

Temperature = Annotated[float, Field(ge=COLDEST, le=HOTTEST, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=MOST_SEEDS)]
