"""The learner: one DeepSpeed ZeRO engine that applies the SCOPE loss to one step's rollouts.

It runs identically on every rank and makes collective calls. Its caller supplies the batches and distributes the
weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel

from trainer.checkpoint.snapshot import Snapshot, SnapshotEngine
from trainer.config import RunConfig
from trainer.determinism import use_deterministic_algorithms
from trainer.entropy_control import Actuators
from trainer.files import replaced_directory
from trainer.learner.deepspeed_config import learner_engine_config
from trainer.learner.entropy_error import entropy_error
from trainer.learner.learning_rate import learning_rate
from trainer.learner.micro_batches import micro_batches, split_to, token_micro_batches
from trainer.learner.reference_policy import ReferencePolicy, reference_kl
from trainer.learner.step_metrics import StepMetrics
from trainer.loss.auxiliary_pool import auxiliary_pool, pool_sums
from trainer.loss.objective import scope_loss
from trainer.loss.step_plan import StepPlan, plan_step, role_sums
from trainer.policy.forward import forward
from trainer.policy.gather import gather_parameters
from trainer.policy.lora import adapter_weights, add_adapters, is_adapter, merged_weights, save_adapter
from trainer.policy.model import PolicyModel, load_policy
from trainer.policy.packing import prompt_runs
from trainer.prompts.codec import PromptCodec
from trainer.prompts.end_tokens import keep_end_tokens
from trainer.regularizers import make_regularizer
from trainer.rollouts.batch import RolloutBatch

PROBE_TOKENS = 64
"""length of the probe, tokens; shorter if the model's longest sequence is"""
PROBE_SEED = 20251008


class Learner:
    """A policy under training. Every method is collective: all ranks call it in the same order."""

    def __init__(self, config: RunConfig, model_dir: Path) -> None:
        self._config = config
        self._regularizer = make_regularizer(config.regularizer)
        torch.set_num_threads(config.learner.threads)
        if config.determinism.strict:
            use_deterministic_algorithms()
        policy = load_policy(model_dir, config.learner)
        if config.learner.lora.rank:
            add_adapters(policy.model, config.learner.lora, config.seed)
        optimizer = torch.optim.AdamW(
            [p for p in policy.parameters() if p.requires_grad],
            lr=config.optimizer.learning_rate,
            betas=(config.optimizer.beta1, config.optimizer.beta2),
            eps=config.optimizer.epsilon,
            weight_decay=config.optimizer.weight_decay,
            fused=True if config.learner.offload != "none" else None,
        )
        # Any: the parts of DeepSpeed's engine used here are untyped.
        self.engine: Any = deepspeed.initialize(
            model=policy, optimizer=optimizer, config=learner_engine_config(config)
        )[0]
        # DeepSpeed uses a copy of the process group, for which torch sets its default timeout.
        limit = timedelta(seconds=config.learner.collective_timeout_seconds)
        self.engine.data_parallel_group.set_timeout(limit)
        self._reference = (
            None if config.loss.reference == "none" else ReferencePolicy(config, model_dir, self.engine)
        )
        self._saves = SnapshotEngine(copy=config.checkpoint.asynchronous)
        self.engine.checkpoint_engine = self._saves

    @property
    def device(self) -> torch.device:
        """The device that this rank computes on."""
        return self.engine.device

    @property
    def model(self) -> PreTrainedModel:
        """The policy's Hugging Face model, for a sampler in the same process."""
        return self._policy.model

    @property
    def world_size(self) -> int:
        """Number of learner ranks."""
        return dist.get_world_size()

    def step(self, batch: RolloutBatch, actuators: Actuators, *, strength: float, step: int) -> StepMetrics:
        """One learner step: measure the proximal policy, then `loss.epochs` x `loss.minibatches` optimizer updates.

        batch: this rank's share; strength: of the regularizer; step: the learner step, which sets the learning rate and
        seeds random choices. Raises FloatingPointError when a gradient norm is not finite.
        """
        batch = RolloutBatch(**{f.name: getattr(batch, f.name).to(self.engine.device) for f in fields(batch)})
        rate = self._set_learning_rate(step)
        started = time.perf_counter()
        rows = torch.arange(len(batch.rewards), device=self.engine.device)
        parts = self._micro_batches(batch, rows)
        proximal, entropy, tilted, at_sampling = self._measure(
            batch, parts, self._regularizer.relative_temperature(strength)
        )
        reference = None
        if self._reference is not None:
            reference = self._reference.logprobs(batch, parts)
        measured = time.perf_counter()
        pool = auxiliary_pool(batch, proximal, actuators.surprisal_exponent, self._config.entropy_control)
        pooled = pool_sums(batch, pool)
        base, adaptive = sums = role_sums(batch, proximal, entropy, pool)
        plan = plan_step(
            batch,
            proximal,
            entropy,
            tilted,
            sums,
            pool,
            pooled,
            self._regularizer,
            self._config,
            strength=strength,
            step=step,
            reference=reference,
            at_sampling=at_sampling,
        )
        totals = torch.zeros(5, dtype=torch.float64, device=self.engine.device)
        norms = []
        updates = self._config.loss.epochs * self._config.loss.minibatches
        for update in range(updates):
            rows = (batch.minibatch == update % self._config.loss.minibatches).nonzero().squeeze(-1)
            totals += self._update(batch, rows, plan, actuators.alpha)
            norms.append(float(self.engine.get_global_grad_norm() or 0.0))
        dist.all_reduce(totals)
        if not all(math.isfinite(norm) for norm in norms):
            raise FloatingPointError(f"gradient norm {norms} is not finite at learner step {step}")
        surrogate, auxiliary_objective, clipped, counted, clamped = totals.tolist()
        padding_share, token_imbalance = self._token_shares(batch, parts)
        return StepMetrics(
            entropy=base.entropy / base.tokens if base.tokens else math.nan,
            entropy_error=entropy_error(batch, entropy),
            surrogate=surrogate / updates,
            auxiliary=auxiliary_objective / updates,
            clip_fraction=clipped / max(counted, 1.0),
            clamped_tokens=int(clamped),
            gradient_norm=sum(norms) / len(norms),
            positives=int(adaptive.learned),
            adaptive_rollouts=int(adaptive.rollouts),
            auxiliary_positives=int(pooled.learned),
            auxiliary_effective=pooled.effective,
            auxiliary_largest_share=pooled.largest_share,
            auxiliary_length=pooled.mean_length,
            auxiliary_weighted_length=pooled.weighted_length,
            reward_base=base.reward / max(base.rollouts, 1.0),
            reward_adaptive=adaptive.reward / adaptive.rollouts if adaptive.rollouts else math.nan,
            tokens=int(base.tokens + adaptive.tokens),
            response_length=(base.tokens + adaptive.tokens) / max(base.rollouts + adaptive.rollouts, 1.0),
            padding_share=padding_share,
            token_imbalance=token_imbalance,
            mismatch_kl_base=base.kl / max(base.tokens, 1.0),
            mismatch_kl_adaptive=adaptive.kl / max(adaptive.tokens, 1.0),
            ratio_deviation_base=base.ratio_deviation,
            ratio_deviation_adaptive=adaptive.ratio_deviation,
            generator_entropy=-base.behaviour / base.tokens if base.tokens else math.nan,
            proximal_seconds=measured - started,
            update_seconds=time.perf_counter() - measured,
            learning_rate=rate,
            reference_kl=None if reference is None else reference_kl(batch, proximal, reference),
        )

    def gather_weights(self) -> dict[str, Tensor] | None:
        """The policy's parameters by Hugging Face name, adapters merged, on the CPU; None on ranks other than 0."""
        weights = self._gathered(lambda name: True)
        if weights is None or not self._config.learner.lora.rank:
            return weights
        return merged_weights(self._policy.model, weights)

    def gather_adapter(self) -> dict[str, Tensor] | None:
        """The adapters by peft's names, on the CPU; None on ranks other than 0 and without LoRA."""
        if not self._config.learner.lora.rank:
            return None
        weights = self._gathered(is_adapter)
        return None if weights is None else adapter_weights(weights)

    @torch.no_grad()
    def probe_logprobs(self) -> tuple[list[int], list[float]]:
        """A fixed token sequence, and this policy's log-probabilities of its tokens after the first, nats.

        Generators compare their own log-probabilities with these to prove which weights they run.
        """
        generator = torch.Generator().manual_seed(PROBE_SEED)
        vocabulary = self._policy.model.config.vocab_size
        count = min(PROBE_TOKENS, self._config.model.max_length - 1)
        tokens = torch.randint(0, vocabulary, (count,), generator=generator).to(self.engine.device)
        logprobs, _ = self.engine(
            tokens.unsqueeze(0),
            torch.ones(1, dtype=torch.int64, device=tokens.device),
            tokens[1:].unsqueeze(0),
            torch.ones(1, count - 1, device=tokens.device),
            torch.ones(1, device=tokens.device),
        )
        return tokens.tolist(), logprobs[0].tolist()

    def export(
        self,
        directory: Path,
        weights: dict[str, Tensor],
        source: Path,
        adapter: dict[str, Tensor] | None = None,
    ) -> None:
        """Write a Hugging Face directory: `weights` in safetensors, configuration and tokenizer of `source`.

        Replaces an earlier `directory`; see `replaced_directory`. adapter: written to its subdirectory `adapter`.
        """
        with replaced_directory(directory) as writing:
            self._policy.model.save_pretrained(writing, state_dict=weights)
            codec = PromptCodec.load(source, self._config)
            codec.tokenizer.save_pretrained(writing)
            keep_end_tokens(writing, codec.end_tokens)
            if adapter is not None:
                save_adapter(writing / "adapter", self._config.learner.lora, adapter)

    def optimizer_bytes(self) -> int:
        """Bytes of optimizer state on this rank; ZeRO divides the state over the ranks."""
        states = self.engine.optimizer.optimizer.state.values()
        return sum(v.numel() * v.element_size() for s in states for v in s.values() if isinstance(v, Tensor))

    def snapshot(self, directory: Path, tag: str) -> Snapshot:
        """The weights and optimizer state that this rank must write under `directory/tag`; creates that directory.

        With `checkpoint.asynchronous` training may continue before they are written.
        """
        # Frozen parameters are those of the starting policy, which every start loads first.
        frozen = self._config.learner.lora.rank > 0
        self.engine.save_checkpoint(
            str(directory), tag=tag, save_latest=False, exclude_frozen_parameters=frozen
        )
        return self._saves.take()

    def load(self, directory: Path, tag: str, *, universal: bool = False) -> None:
        """Load a checkpoint that the snapshots of all ranks wrote. Raises RuntimeError if there is none.

        universal: it was converted by `to_universal`.
        """
        self.engine._config.load_universal_checkpoint = universal
        strict = not self._config.learner.lora.rank
        path, _ = self.engine.load_checkpoint(str(directory), tag=tag, load_module_strict=strict)
        if path is None:
            raise RuntimeError(f"DeepSpeed found no checkpoint at {directory / tag}")

    @property
    def _policy(self) -> PolicyModel:
        return self.engine.module

    def _set_learning_rate(self, step: int) -> float:
        rate = learning_rate(self._config.optimizer, step, self._config.steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _gathered(self, wanted: Callable[[str], bool]) -> dict[str, Tensor] | None:
        parameters = [(name, p) for name, p in self._policy.model.named_parameters() if wanted(name)]
        partitioned = self._config.learner.zero_stage == 3
        bucket = self._config.weights.bucket_mib << 20
        return gather_parameters(parameters, partitioned=partitioned, bucket_bytes=bucket)

    @property
    def _by_tokens(self) -> bool:
        return self._config.learner.micro_batching == "tokens"

    def _micro_batches(self, batch: RolloutBatch, rows: Tensor) -> list[Tensor]:
        """Row numbers of each micro-batch; every rank gets equally many micro-batches. Collective."""
        budget = self._config.learner.micro_batch_tokens
        if not self._by_tokens:
            return micro_batches(rows, batch.input_ids.shape[1], budget)
        chosen = batch.select(rows)
        lengths = keys = chosen.lengths.tolist()
        if self._config.learner.share_prompts:
            # Rollouts of one prompt stay together.
            keys = list(lengths)
            for start, end in prompt_runs(
                chosen.input_ids.cpu().numpy(), chosen.prompt_lengths.cpu().numpy()
            ):
                keys[start:end] = [max(lengths[start:end])] * (end - start)
        parts = token_micro_batches(rows, lengths, keys, budget)
        most = torch.tensor(len(parts), device=rows.device)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        # Possible on every rank, since all have equally many rows.
        return split_to(parts, int(most))

    @torch.no_grad()
    def _measure(
        self, batch: RolloutBatch, parts: list[Tensor], relative_temperature: float | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Log-probabilities and entropy of the proximal policy, float[N, T], nats.

        Also log-probabilities at `relative_temperature` times the rows' temperature, or None without one, and at the
        sampling temperature, or None where no adaptive rollout teaches the reward.
        """
        logprobs, entropies = [], []
        for rows in parts:
            micro = batch.select(rows)
            temperatures = [micro.temperature]
            if relative_temperature is not None:
                temperatures.append(relative_temperature * micro.temperature)
            if self._config.adaptive_rewards:
                temperatures.append(micro.sampling_temperature)
            logprob, entropy = forward(
                self.engine, self._config.learner, micro, torch.stack(temperatures, -1), with_entropy=True
            )
            logprobs.append(logprob)
            entropies.append(entropy)
        back = torch.cat(parts).argsort()
        at = list(torch.cat(logprobs)[back].unbind(-1))
        proximal = at.pop(0)
        tilted = at.pop(0) if relative_temperature is not None else None
        return proximal, torch.cat(entropies)[back], tilted, at.pop(0) if at else None

    def _update(self, batch: RolloutBatch, rows: Tensor, plan: StepPlan, alpha: float) -> Tensor:
        parts = self._micro_batches(batch, self._learning_rows(rows, plan))
        wants_entropy = plan.entropy_coefficient != 0
        totals = torch.zeros(5, dtype=torch.float64, device=self.engine.device)
        for index, part in enumerate(parts):
            self.engine.set_gradient_accumulation_boundary(index == len(parts) - 1)
            micro = batch.select(part)
            logprobs, entropy = forward(
                self.engine,
                self._config.learner,
                micro,
                micro.temperature,
                with_entropy=wants_entropy,
                entropy_gradient=wants_entropy,
            )
            outputs = scope_loss(
                plan.inputs(part, micro, logprobs, entropy),
                alpha=alpha,
                clip_low=self._config.loss.clip_low,
                clip_high=self._config.loss.clip_high,
                tis_cap=self._config.loss.tis_cap,
                base_clip=plan.base_clip,
                dual_clip=self._config.loss.dual_clip,
                entropy_coefficient=plan.entropy_coefficient,
                kl_coefficient=self._config.loss.kl_coefficient if plan.kl_weight is not None else 0.0,
            )
            self.engine.backward(outputs.loss * self.world_size)
            sums = (
                outputs.surrogate,
                outputs.auxiliary,
                outputs.clipped_tokens,
                outputs.tokens,
                outputs.clamped_tokens,
            )
            totals += torch.stack([part.double() for part in sums])
        self.engine.step()
        return totals

    def _learning_rows(self, rows: Tensor, plan: StepPlan) -> Tensor:
        """The rows of a minibatch with a gradient, filled up so that every rank has equally many. Collective.

        Rollouts of weight 0 (base groups with equal rewards, auxiliary failures) have no gradient, so leaving them out
        only saves time. At least one row stays, because the optimizer must step on every rank.
        """
        learning = plan.learning[rows]
        needed = learning.sum().clamp(min=1)
        dist.all_reduce(needed, op=dist.ReduceOp.MAX)
        # Every rank has equally many rows, see `shard_batches`.
        return rows[torch.argsort(~learning, stable=True)][: int(needed)]

    def _token_shares(self, batch: RolloutBatch, parts: list[Tensor]) -> tuple[float, float]:
        """`padding_share` and `token_imbalance` of the step. Collective."""
        tokens = torch.zeros(self.world_size + 1, dtype=torch.float64)
        tokens[dist.get_rank()] = float(batch.mask.sum() + batch.prompt_lengths.sum())
        for part in parts:
            width = int(batch.lengths[part].max()) if self._by_tokens else batch.input_ids.shape[1]
            tokens[-1] += len(part) * width
        tokens = tokens.to(self.engine.device)
        dist.all_reduce(tokens)
        used = tokens[:-1]
        return 1 - float(used.sum() / tokens[-1]), float(used.max() / used.mean())
