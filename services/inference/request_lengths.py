"""The number of tokens sampled for each request of a vLLM worker, read from its model runner while it is paused.

vLLM has two model runners: V1 on CPUs, and V2, which keeps its state on the GPU, wherever it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput

ALL_TOKENS = 1 << 31
"""tokens reported for a request that has ended"""


class RequestLengths(Protocol):
    """Tracks the requests of one worker."""

    def sampled(self) -> dict[str, int]:
        """Return the tokens sampled for each request that the worker has, or that has ended since the last call.

        A request that has ended is reported too, with `ALL_TOKENS`: other responses to its prompt may be in flight,
        and a request that is not listed counts as not started. The engine must be paused, with no step under way.
        """
        ...


def track_requests(runner: Any) -> RequestLengths:
    """Track the requests of a worker's model runner from now on. Call it before the first request."""
    return DeviceRequestLengths(runner) if hasattr(runner, "req_states") else HostRequestLengths(runner)


class _RecordingDict(dict[str, Any]):
    """The V1 runner's requests by name; records which have ended."""

    def __init__(self, requests: dict[str, Any]) -> None:
        super().__init__(requests)
        self.ended: set[str] = set()

    def pop(self, name: str, *default: Any) -> Any:
        """Record and remove a request. vLLM calls it when a request ends."""
        if name in self:
            self.ended.add(name)
        return super().pop(name, *default)


class HostRequestLengths:
    """Request lengths of the V1 model runner, which lists the tokens of each request."""

    def __init__(self, runner: Any) -> None:
        self._requests = runner.requests = _RecordingDict(runner.requests)

    def sampled(self) -> dict[str, int]:
        """Implements `RequestLengths.sampled`."""
        ended, self._requests.ended = self._requests.ended, set()
        held = {name: len(state.output_token_ids) for name, state in self._requests.items()}
        return dict.fromkeys(ended, ALL_TOKENS) | held


class DeviceRequestLengths:
    """Request lengths of the V2 model runner, which keeps only lengths, in slots, and drops preempted requests."""

    def __init__(self, runner: Any) -> None:
        self._states = runner.req_states
        self._ended: set[str] = set()
        self._preempted: dict[str, int] = {}
        finish = runner.finish_requests

        def finish_requests(scheduled: SchedulerOutput) -> None:
            self._record(scheduled.finished_req_ids, scheduled.preempted_req_ids or set())
            finish(scheduled)

        runner.finish_requests = finish_requests

    def sampled(self) -> dict[str, int]:
        """Implements `RequestLengths.sampled`."""
        slots: dict[str, int] = self._states.req_id_to_index
        held = self._lengths(list(slots))
        self._preempted = {name: count for name, count in self._preempted.items() if name not in slots}
        ended, self._ended = self._ended, set()
        return dict.fromkeys(ended, ALL_TOKENS) | self._preempted | held

    def _record(self, finished: set[str], preempted: set[str]) -> None:
        self._preempted |= self._lengths([name for name in preempted if name in self._states.req_id_to_index])
        for name in finished:
            self._preempted.pop(name, None)
        self._ended |= finished

    def _lengths(self, names: list[str]) -> dict[str, int]:
        slots = [self._states.req_id_to_index[name] for name in names]
        # One transfer from the device; it waits for the step that writes the lengths.
        totals = self._states.total_len.gpu[slots].tolist() if slots else []
        prompts = self._states.prompt_len.np[slots].tolist()
        return {name: total - prompt for name, total, prompt in zip(names, totals, prompts, strict=True)}
