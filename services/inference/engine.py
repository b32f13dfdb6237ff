"""The sampling engine of a generator: vLLM's AsyncLLM, with policy versions. Independent of the queue and of Ray.

The role fixes the temperature of the reported log-probabilities (vLLM's `logprobs_mode`): a base engine reports them at
the sampling temperature, an adaptive engine at temperature 1.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from vllm import AsyncEngineArgs, RequestOutput, SamplingParams
from vllm.inputs import TokensPrompt
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import RequestOutputCollector

from services.inference.sample import Sample, SeededPrompt, version_spans
from services.inference.startup_error import last_error_written
from services.weights.probe import Probe
from services.weights.process_group import Rendezvous, TransferError
from trainer.config import GeneratorConfig
from trainer.roles import Role
from trainer.rollouts.trajectory import PolicyVersion

PROBE_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "auto": 0.25}
"""Largest accepted mean difference of the probe's log-probabilities between learner and engine, nats, by engine dtype.

In bfloat16 a single unlikely token may differ by 0.5 without a fault: its logit alone is rounded to 1/8.
"""

MESSAGE_BYTES = 1 << 24
"""Larger payloads reach an engine's workers as a file that they map, because a message is copied several times."""

ARRIVAL_POLL_SECONDS = 0.02
STAGING_POLL_SECONDS = 0.005


class WeightLoadError(RuntimeError):
    """An engine does not run the weights that were loaded into it."""


@dataclass
class _InFlight:
    """The policy version that a request began with, and every version loaded since."""

    version: PolicyVersion
    switches: list[tuple[PolicyVersion, Mapping[str, int]]] = field(default_factory=list)


class SamplingEngine:
    """One vLLM engine that loads new weights while requests are in flight."""

    def __init__(self, engine: AsyncLLM, config: GeneratorConfig, version: PolicyVersion) -> None:
        self._engine = engine
        self._tolerance = PROBE_TOLERANCE[config.dtype]
        self._keep_caches = config.caches_in_flight == "keep"
        self._version = version
        self._in_flight: dict[str, _InFlight] = {}
        self._load_lock = asyncio.Lock()
        self._receive_lock = asyncio.Lock()
        self._requests = 0

    @classmethod
    async def start(
        cls,
        model_dir: Path,
        config: GeneratorConfig,
        *,
        role: Role,
        max_length: int,
        seed: int,
        version: PolicyVersion,
        strict: bool = False,
    ) -> SamplingEngine:
        """Start an engine with the model in `model_dir`. Raises RuntimeError with the reason that vLLM logged.

        strict: batches must not depend on timing, so scheduling waits for each decoding step.
        """
        arguments = AsyncEngineArgs(
            model=str(model_dir),
            dtype=config.dtype,
            max_model_len=max_length,
            max_num_seqs=config.max_sequences,
            seed=seed,
            enforce_eager=config.enforce_eager,
            tensor_parallel_size=config.tensor_parallel,
            gpu_memory_utilization=config.gpu_memory_fraction,
            # vLLM sizes its cache by the free memory of the device, and would count what others allocate meanwhile.
            kv_cache_memory_bytes=config.kv_cache_gib << 30 if config.shares_gpu else None,
            logprobs_mode="processed_logprobs" if role == "base" else "raw_logprobs",
            worker_extension_cls="services.inference.worker_extension.WeightExtension",
            generation_config="vllm",
            enable_log_requests=False,
            disable_log_stats=True,
            async_scheduling=False if strict else None,
            # For a prompt computed in two chunks vLLM rewinds its seeded random generator, which fails on a CPU.
            enable_chunked_prefill=False if strict and not config.gpus_per_generator else None,
        )
        try:
            engine = AsyncLLM.from_engine_args(arguments)
        except RuntimeError as error:
            raise RuntimeError(last_error_written() or str(error)) from error
        await engine.collective_rpc("prepare")
        return cls(engine, config, version)

    @property
    def version(self) -> PolicyVersion:
        """The policy version that new tokens are sampled from."""
        return self._version

    async def sample(
        self,
        prompt: Sequence[int],
        *,
        n: int,
        temperature: float,
        max_tokens: int,
        end_tokens: tuple[int, ...],
        top_p: float = 1.0,
    ) -> list[Sample]:
        """Sample `n` responses to one prompt (token ids).

        temperature: 0 is greedy and requires n=1. top_p: below 1 only in an evaluation; training rollouts are sampled
        from the whole distribution. end_tokens: a response ends after the first of them.
        """
        self._requests += 1
        name = f"sample-{self._requests}"
        parameters = _parameters(temperature, max_tokens, end_tokens, n=n, top_p=top_p)
        record = self._in_flight[name] = _InFlight(self._version)
        try:
            outputs = None
            async for output in self._engine.generate(self._request(prompt), parameters, name):
                outputs = output.outputs
        finally:
            del self._in_flight[name]
        if outputs is None or len(outputs) != n:
            raise RuntimeError(f"vLLM returned {0 if outputs is None else len(outputs)} of {n} samples")
        return [self._sample(output, name, n, record) for output in sorted(outputs, key=lambda o: o.index)]

    async def sample_in_order(
        self,
        prompts: Sequence[SeededPrompt],
        *,
        version: PolicyVersion,
        temperature: float,
        max_tokens: int,
        end_tokens: tuple[int, ...],
    ) -> list[list[Sample]] | None:
        """Sample one response for each seed of each prompt; the same call returns the same responses bit for bit.

        Requests enter a paused engine with an empty cache one after the other, so that batches do not depend on
        timing. No weights are loaded meanwhile, and nothing else may be sampled at the same time. Returns None when
        the engine runs another version than `version` by the time it is free.
        """
        async with self._load_lock:
            if self._version != version:
                return None
            entered: list[tuple[str, RequestOutputCollector]] = []
            try:
                await self._engine.pause_generation(mode="keep", clear_cache=True)
                try:
                    for prompt in prompts:
                        for seed in prompt.seeds:
                            parameters = _parameters(temperature, max_tokens, end_tokens, n=1, seed=seed)
                            self._requests += 1
                            name = f"ordered-{self._requests}"
                            request = TokensPrompt(prompt_token_ids=prompt.tokens)
                            entered.append((name, await self._engine.add_request(name, request, parameters)))
                finally:
                    await self._engine.resume_generation()
                record = _InFlight(version)
                flat = [
                    self._sample((await _result(output)).outputs[0], name, 1, record)
                    for name, output in entered
                ]
            except BaseException:
                await self._engine.abort([output.request_id for _, output in entered], internal=True)
                raise
        samples = iter(flat)
        return [[next(samples) for _ in prompt.seeds] for prompt in prompts]

    async def load(self, version: PolicyVersion, payload: np.ndarray, probe: Probe) -> None:
        """Switch to `version` without dropping requests in flight, then prove that the engine runs it.

        payload: uint8[N], safetensors. Every later token is sampled with the new weights. The key-value caches of
        requests in flight are recomputed or kept, as `generators.caches_in_flight` says. Raises WeightLoadError when
        the probe's log-probabilities differ.
        """
        async with self._load_lock, _for_workers(payload) as weights:
            await self._stage("stage_version", weights)
            await self._switch(version)
            await self._verify(probe)

    async def join_group(self, rendezvous: Rendezvous, first_rank: int) -> None:
        """Have the engine's workers begin to join a broadcast group. A failure is raised by the next `receive`."""
        async with self._receive_lock:
            await self._engine.collective_rpc("join_weights", args=(rendezvous.as_text(), first_rank))

    async def receive(self, buckets: str) -> None:
        """Receive a broadcast while sampling continues. Raises TransferError when the weights did not arrive."""
        async with self._receive_lock:
            await self._engine.collective_rpc("receive_weights", args=(buckets,))
            while None in (states := await self._engine.collective_rpc("received_weights")):
                await asyncio.sleep(ARRIVAL_POLL_SECONDS)
        if any(states):
            raise TransferError(next(filter(None, states)))

    async def load_received(self, version: PolicyVersion, probe: Probe) -> None:
        """Load the weights that `receive` received, as `load` does."""
        async with self._load_lock:
            await self._stage("stage_received")
            await self._switch(version)
            await self._verify(probe)

    async def verify(self, probe: Probe) -> None:
        """Raise WeightLoadError unless the engine's log-probabilities of the probe equal the learner's."""
        async with self._load_lock:
            await self._verify(probe)

    def _request(self, tokens: Sequence[int]) -> TokensPrompt:
        """A prompt. Kept caches are shared only among requests that began with the same policy version."""
        request = TokensPrompt(prompt_token_ids=list(tokens))
        if self._keep_caches:
            request["cache_salt"] = f"{self._version.lineage}-{self._version.step}"
        return request

    async def _stage(self, method: str, *weights: bytes | str) -> None:
        await self._engine.collective_rpc(method, args=weights)
        while not all(await self._engine.collective_rpc("staged")):
            await asyncio.sleep(STAGING_POLL_SECONDS)

    async def _switch(self, version: PolicyVersion) -> None:
        await self._engine.pause_generation(mode="keep", clear_cache=not self._keep_caches)
        try:
            sampled = (await self._engine.collective_rpc("swap_weights"))[0]
            counts = {name.rsplit("-", 1)[0]: tokens for name, tokens in sampled.items()}
            for record in self._in_flight.values():
                record.switches.append((version, counts))
            self._version = version
        finally:
            await self._engine.resume_generation()

    async def _verify(self, probe: Probe) -> None:
        self._requests += 1
        parameters = SamplingParams(
            temperature=1.0,
            max_tokens=1,
            prompt_logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        result = None
        name = f"probe-{self._requests}"
        async for output in self._engine.generate(self._request(probe.tokens), parameters, name):
            result = output.prompt_logprobs
        if result is None:
            raise WeightLoadError("vLLM returned no log-probabilities for the probe")
        off = probe.deviation(
            [
                position[token].logprob if position else math.nan
                for token, position in zip(probe.tokens[1:], list(result)[1:], strict=True)
            ]
        )
        if off > self._tolerance:
            raise WeightLoadError(
                f"the engine does not run policy version {tuple(self._version)}: the probe's log-probabilities are "
                f"off by {off:.3g} nats on average, tolerance {self._tolerance}"
            )

    def shutdown(self) -> None:
        """Stop the engine's processes."""
        self._engine.shutdown()

    @staticmethod
    def _sample(output: object, name: str, n: int, record: _InFlight) -> Sample:
        tokens = np.asarray(output.token_ids, dtype="<i4")  # pyright: ignore[reportAttributeAccessIssue]
        logprobs = np.asarray(output.logprobs.logprobs, dtype="<f4")  # pyright: ignore[reportAttributeAccessIssue]
        index = output.index  # pyright: ignore[reportAttributeAccessIssue]
        child = f"{index}_{name}" if n > 1 else name
        return Sample(
            tokens=tokens,
            logprobs=logprobs[: len(tokens)],
            finish_reason="length" if output.finish_reason == "length" else "stop",  # pyright: ignore[reportAttributeAccessIssue]
            versions=version_spans(record.version, record.switches, child, len(tokens)),
        )


@asynccontextmanager
async def _for_workers(payload: np.ndarray) -> AsyncIterator[bytes | str]:
    """Weights as an argument of a call to the workers: bytes, or the path of a file in memory.

    The file is in no directory, so nothing of it remains when this process is killed.
    """
    if payload.nbytes <= MESSAGE_BYTES:
        yield payload.tobytes()
        return
    with open(os.memfd_create("scope-weights"), "wb") as file:
        await asyncio.to_thread(file.write, payload.data)
        file.flush()
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


# Cached, because vLLM copies the parameters for each request.
@lru_cache(maxsize=64)
def _parameters(
    temperature: float,
    max_tokens: int,
    end_tokens: tuple[int, ...],
    *,
    n: int,
    seed: int | None = None,
    top_p: float = 1.0,
) -> SamplingParams:
    return SamplingParams(
        n=n,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        max_tokens=max_tokens,
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        # vLLM would add the tokens that the model's files name, which need not be tokens of the tokenizer.
        ignore_eos=True,
        stop_token_ids=list(end_tokens),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


async def _result(collector: RequestOutputCollector) -> RequestOutput:
    output = collector.get_nowait() or await collector.get()
    if not isinstance(output, RequestOutput) or not output.finished:
        raise RuntimeError(f"vLLM returned {output} for a request of the final output only")
    return output
