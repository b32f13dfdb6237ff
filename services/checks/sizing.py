"""An estimate of a run's memory, disk space, queue and speed, from its configuration and the shape of the model.

Sizes are bytes unless a name says otherwise. Sources: ZeRO (Rajbhandari et al., arXiv 1910.02054) for the memory of a
rank; the roofline model (Williams et al., 2009) for speed. Activations are those of gated transformers and the least
certain part, within a factor of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.head.limits import CPU_FUSED_ROWS, DEVICE_FUSED_ROWS, FUSED_COLUMNS, FUSED_FROM_VOCABULARY

LOGIT_COPIES = 4
"""peak number of arrays of the size of the logits in the computation of a chunk or block"""
OPTIMIZER_BYTES = 12
"""per parameter: DeepSpeed's float32 copy and the two moments of AdamW, also when training in float32"""
DECODE_EFFICIENCY, TRAIN_EFFICIENCY = 0.5, 0.35
"""assumed utilisation of memory bandwidth (decoding; not measured on GPUs) and of arithmetic (training; an H100 reached
0.33 with 1.5 billion parameters and 0.20 with half a billion)"""


@dataclass(frozen=True)
class ModelShape:
    """The shape of a dense decoder-only transformer with gated feed-forward layers."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    tied: bool
    context: int
    """longest sequence that the model's positions allow, tokens"""

    @property
    def layer_parameters(self) -> int:
        """Parameters of a layer, without biases."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.key_value_heads)
        return attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden + 2 * self.head_dim

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of low-rank adapters on every linear layer except the output head."""
        query, key_value = self.heads * self.head_dim, self.key_value_heads * self.head_dim
        attention = 2 * (self.hidden + query) + 2 * (self.hidden + key_value)
        return rank * self.layers * (attention + 3 * (self.hidden + self.feed_forward))

    @property
    def head_parameters(self) -> int:
        """Parameters of the output matrix."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; a tied output matrix counts once."""
        matrices = self.head_parameters * (1 if self.tied else 2)
        return matrices + self.layers * self.layer_parameters + self.hidden

    def key_value_bytes(self, width: int) -> int:
        """Bytes of the key-value cache per token. width: bytes per number."""
        return 2 * self.layers * self.key_value_heads * self.head_dim * width


def model_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape in the `config.json` of a Hugging Face model. Raises ScopeError for architectures not covered."""
    text: Mapping[str, Any] = config.get("text_config", config)
    if text.get("num_experts") or text.get("num_local_experts"):
        raise ScopeError("the estimate covers dense models only, and this one is a mixture of experts")
    try:
        heads = int(text["num_attention_heads"])
        return ModelShape(
            hidden=int(text["hidden_size"]),
            layers=int(text["num_hidden_layers"]),
            heads=heads,
            key_value_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=int(text.get("head_dim") or int(text["hidden_size"]) // heads),
            feed_forward=int(text["intermediate_size"]),
            vocabulary=int(text["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            context=int(text["max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ScopeError(f"the estimate cannot read the model's config.json: {error!r}") from error


def built_in_shape(config: RunConfig, vocabulary: int) -> ModelShape:
    """The shape of the built-in tiny model that the `model` block describes."""
    model = config.model
    return ModelShape(
        hidden=model.hidden_size,
        layers=model.layers,
        heads=model.heads,
        key_value_heads=model.heads,
        head_dim=model.head_dim,
        feed_forward=model.ffn_size,
        vocabulary=vocabulary,
        tied=False,
        context=model.max_length,
    )


@dataclass(frozen=True)
class RankMemory:
    """Memory of one learner rank during training, bytes."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """activations of one micro-batch that the backward pass needs"""
    head: int
    """log-probabilities and entropy of one micro-batch, with the gradient of the output matrix"""
    gathered: int
    """parameters of other ranks that ZeRO-3 gathers temporarily, with their gradients"""
    host_copies: int
    """host memory of rank 0: the policy version being sent, and the checkpoint being written"""
    loading: int
    """host memory of every rank during its start: the whole model in float32"""
    offloaded: int
    """host memory of every rank for `learner.offload`; not part of the fields above"""

    @property
    def device(self) -> int:
        """Memory of the device: all fields except those of host memory."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.head + self.gathered


def trained_parameters(shape: ModelShape, config: RunConfig) -> int:
    """Number of trained parameters: all, or those of the adapters (fewer with some `learner.lora.targets`)."""
    rank = config.learner.lora.rank
    return shape.adapter_parameters(rank) if rank else shape.parameters


def rank_memory(shape: ModelShape, config: RunConfig) -> RankMemory:
    """Memory of the largest rank. Gradients count as device memory, whatever is offloaded."""
    learner, count, width = config.learner, shape.parameters, _learner_width(config)
    share = {stage: learner.workers if learner.zero_stage >= stage else 1 for stage in (1, 2, 3)}
    tokens = max(learner.micro_batch_tokens, config.model.max_length)
    trained = trained_parameters(shape, config)
    optimizer = trained * OPTIMIZER_BYTES // share[1]
    weights = count * width // share[3]
    gathered = 0
    if learner.zero_stage == 3 and (learner.workers > 1 or learner.offload == "all"):
        gathered = 2 * width * max(shape.layer_parameters, shape.head_parameters)
    version = 2 * count * width
    copied = optimizer + trained * width // share[3] if config.checkpoint.asynchronous else 0
    return RankMemory(
        weights=0 if learner.offload == "all" else weights,
        gradients=trained * width // share[2],
        optimizer=0 if learner.offload != "none" else optimizer,
        activations=activation_bytes(shape, tokens, width, checkpointing=learner.gradient_checkpointing),
        head=head_bytes(shape, config, tokens),
        gathered=gathered,
        host_copies=version + copied,
        loading=4 * count,
        offloaded={"none": 0, "optimizer": optimizer, "all": optimizer + weights}[learner.offload],
    )


def activation_bytes(shape: ModelShape, tokens: int, width: int, *, checkpointing: bool) -> int:
    """Activations of `tokens` for the backward pass: with `checkpointing` only the input of each layer."""
    kept = shape.hidden * width
    attention = 2 * (shape.heads + 2 * shape.key_value_heads) + shape.heads
    inside = width * (6 * shape.hidden + attention * shape.head_dim + 4 * shape.feed_forward)
    if checkpointing:
        return tokens * (shape.layers * kept + inside)
    return tokens * shape.layers * inside


def uses_fused_head(shape: ModelShape, config: RunConfig) -> bool:
    """Whether the learner uses the fused head."""
    kind = config.learner.fused_head
    return kind == "on" or (kind == "auto" and shape.vocabulary >= FUSED_FROM_VOCABULARY)


def head_bytes(shape: ModelShape, config: RunConfig, tokens: int) -> int:
    """Peak memory of log-probabilities and entropy of `tokens` response tokens, forward and backward."""
    chunk = min(config.learner.logit_chunk_tokens, tokens)
    width = _learner_width(config)
    gradients = tokens * shape.hidden * (4 + (width if width < 4 else 0))
    if not config.learner.lora.rank:
        gradients += shape.head_parameters * width
    if not uses_fused_head(shape, config):
        return gradients + LOGIT_COPIES * 4 * chunk * shape.vocabulary
    columns = min(FUSED_COLUMNS, shape.vocabulary)
    usual = DEVICE_FUSED_ROWS if config.learner.gpus_per_worker else CPU_FUSED_ROWS
    matrix = columns * shape.hidden * 4
    return gradients + LOGIT_COPIES * 4 * min(chunk, usual) * columns + 2 * matrix


@dataclass(frozen=True)
class GeneratorMemory:
    """Memory of one generator on each of its `tensor_parallel` devices, bytes."""

    weights: int
    key_values_wanted: int
    """`max_sequences` sequences of full length; with less memory vLLM decodes fewer at once"""
    key_value_token: int
    """key-value cache of one token"""


def generator_memory(shape: ModelShape, config: RunConfig) -> GeneratorMemory:
    """Memory of weights and key-value cache."""
    generators, width = config.generators, generator_width(config)
    token = shape.key_value_bytes(width) // min(generators.tensor_parallel, shape.key_value_heads)
    return GeneratorMemory(
        weights=shape.parameters * width // generators.tensor_parallel,
        key_values_wanted=generators.max_sequences * config.model.max_length * token,
        key_value_token=token,
    )


def checkpoint_bytes(shape: ModelShape, config: RunConfig) -> int:
    """Size of one checkpoint of all ranks: weights and optimizer state."""
    weights = 0 if config.learner.zero_stage == 3 else _learner_width(config)
    return trained_parameters(shape, config) * (weights + OPTIMIZER_BYTES)


def disk_bytes(shape: ModelShape, config: RunConfig) -> int:
    """Disk space of checkpoints, the final model and the queue's append-only file.

    Besides the newest `checkpoint.keep` there are the best one, the one being written and the one being evaluated.
    """
    others = 3 if config.evaluation.every_steps else 2
    kept = (config.checkpoint.keep + others) * checkpoint_bytes(shape, config)
    return kept + 2 * shape.parameters * _learner_width(config) + 2 * sum(queue_bytes(config))


def queue_bytes(config: RunConfig) -> tuple[int, int]:
    """Most bytes in Redis, if every response has full length: unread groups, and read but unacknowledged ones."""
    groups = config.groups_per_step * config.group_bytes_estimate
    unread = groups * (1 + config.pipeline.max_staleness)
    unacknowledged = min(2 * config.checkpoint.every_steps * groups, config.pipeline.unacked_bytes)
    return unread, unacknowledged


@dataclass(frozen=True)
class Device:
    """A GPU, by its data sheet."""

    name: str
    memory: int
    bandwidth: float
    """bytes per second"""
    arithmetic: float
    """dense bfloat16 operations per second"""


DEVICES = {
    "a100": Device("A100 80 GB", 80 * 10**9, 2.039e12, 312e12),
    "h100": Device("H100 SXM", 80 * 10**9, 3.35e12, 989e12),
    "h200": Device("H200 SXM", 141 * 10**9, 4.8e12, 989e12),
}


def sequences_at_once(shape: ModelShape, config: RunConfig, device: Device) -> int:
    """Sequences of full length that fit into a generator's key-value cache, at most `max_sequences`."""
    memory, generators = generator_memory(shape, config), config.generators
    cache = device.memory * generators.gpu_memory_fraction - memory.weights
    if generators.shares_gpu:
        cache = generators.kv_cache_gib << 30
    return max(
        0,
        min(generators.max_sequences, int(cache // (memory.key_value_token * config.model.max_length))),
    )


def decode_tokens_per_second(shape: ModelShape, config: RunConfig, device: Device) -> float:
    """Tokens per second of one generator: each decoding step reads the weights and half-full caches once."""
    sequences = sequences_at_once(shape, config, device)
    if sequences == 0:
        return 0.0
    memory = generator_memory(shape, config)
    read = memory.weights + sequences * config.model.max_length / 2 * memory.key_value_token
    operations = 2 * shape.parameters * sequences / config.generators.tensor_parallel
    seconds = max(read / device.bandwidth, operations / device.arithmetic)
    return DECODE_EFFICIENCY * sequences / seconds


def train_tokens_per_second(shape: ModelShape, config: RunConfig, device: Device) -> float:
    """Tokens per second of all learner ranks. Operations per parameter: 2 to measure, 6 to update (8 with gradient
    checkpointing). The fused head computes its logits once more.
    """
    updates = 8 if config.learner.gradient_checkpointing else 6
    body = (2 + updates) * (shape.parameters - shape.head_parameters * (1 if shape.tied else 2))
    head = (2 + 6 + (2 if uses_fused_head(shape, config) else 0)) * shape.head_parameters
    return TRAIN_EFFICIENCY * device.arithmetic * config.learner.workers / (body + head)


def generator_width(config: RunConfig) -> int:
    """Bytes per number in an engine; `auto` counts as bfloat16."""
    return 4 if config.generators.dtype == "float32" else 2


def _learner_width(config: RunConfig) -> int:
    return 2 if config.learner.precision == "bf16" else 4
