"""Configuration of the starting policy, and of the supervised warm start of the built-in model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block, Positive
from trainer.config.engine_limits import Seed
from trainer.config.paths import PathText


class ModelConfig(Block):
    """The starting policy. Without `path` it is the built-in tiny model after the warm start."""

    path: PathText | None = Field(
        default=None,
        description="Hugging Face model directory, or hub id (owner/name); unset: the built-in tiny model, "
        "warm-started",
    )
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] | None = Field(
        default=None, description="branch, tag or commit of a hub id; unset: its main branch"
    )
    hidden_size: Annotated[int, Field(ge=32, le=1024)] = Field(
        default=128, description="built-in model: width of the hidden states"
    )
    layers: Annotated[int, Field(ge=1, le=48)] = Field(
        default=3, description="built-in model: number of layers"
    )
    heads: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="built-in model: attention heads per layer"
    )
    head_dim: Annotated[int, Field(ge=32, le=256)] = Field(
        default=32, description="built-in model: width of an attention head"
    )
    ffn_size: Annotated[int, Field(ge=32, le=8192)] = Field(
        default=384, description="built-in model: width of the feed-forward layers"
    )
    max_length: Annotated[int, Field(ge=16, le=131072)] = Field(
        default=64, description="context length, tokens"
    )
    chat: Literal["auto", "on", "off"] = Field(
        default="auto", description="format prompts with the tokenizer's chat template; auto: if it has one"
    )
    system_prompt: str | None = Field(
        default=None,
        description="system message of chat prompts; a problem's own system message takes its place",
    )
    system_role: Literal["system", "user"] = Field(
        default="system",
        description="system: system messages are sent as such; user: their text begins the first user message, for "
        "chat templates that refuse them",
    )

    @model_validator(mode="after")
    def _revision_of_a_path(self) -> ModelConfig:
        if self.revision is not None and self.path is None:
            raise ValueError(
                f"model.revision={self.revision!r} needs model.path, the hub id that it belongs to"
            )
        return self


class WarmStartConfig(Block):
    """Supervised training of the built-in tiny model on random correct solutions of training problems."""

    seed: Seed = Field(default=3, description="seed of initial weights and training data")
    steps: Annotated[int, Field(ge=1)] = Field(default=800, description="optimizer steps")
    batch_size: Annotated[int, Field(ge=1)] = Field(default=128, description="problems per optimizer step")
    learning_rate: Positive = Field(default=2e-3, description="largest learning rate")
    softening: Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False)] = Field(
        default=1.45,
        description="temperature folded into the output head at the end; above 1: higher starting entropy",
    )
    threads: Annotated[int, Field(ge=1)] = Field(default=2, description="torch threads")
    cache_dir: PathText = Field(
        default="~/.cache/scope-rl/warm-start", description="where finished warm starts are cached"
    )
