"""How many tokens each request of a vLLM worker has, as its model runner knows it when the engine stands still.

vLLM has two model runners: the first on CPUs, and the second, which keeps its state on the GPU, wherever it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput

ALL_OF_THEM = 1 << 31
"""Stands for the tokens of a request that has ended."""


class Requests(Protocol):
    """Of one worker."""

    def sampled(self) -> dict[str, int]:
        """Tokens of each request that the worker holds, or that has ended since the last call.

        A response that has ended is no longer among the requests, yet its siblings may be in flight: left out, it
        would look like one that had not begun. The engine must be paused, and no step under way.
        """
        ...


def watch(runner: Any) -> Requests:
    """Keep account of the requests of a worker's model runner from now on; to be called before the first."""
    return DeviceRequestLengths(runner) if hasattr(runner, "req_states") else HostRequestLengths(runner)


class _Remembering(dict[str, Any]):
    """The first runner's requests by name; remembers which have ended."""

    def __init__(self, requests: dict[str, Any]) -> None:
        super().__init__(requests)
        self.ended: set[str] = set()

    def pop(self, name: str, *default: Any) -> Any:
        """As vLLM removes a request."""
        if name in self:
            self.ended.add(name)
        return super().pop(name, *default)


class HostRequestLengths:
    """Of vLLM's first model runner, which lists the tokens of each request."""

    def __init__(self, runner: Any) -> None:
        self._requests = runner.requests = _Remembering(runner.requests)

    def sampled(self) -> dict[str, int]:
        """As the protocol says."""
        ended, self._requests.ended = self._requests.ended, set()
        held = {name: len(state.output_token_ids) for name, state in self._requests.items()}
        return dict.fromkeys(ended, ALL_OF_THEM) | held


class DeviceRequestLengths:
    """Of vLLM's second model runner, which keeps only lengths, in slots, and forgets what is preempted."""

    def __init__(self, runner: Any) -> None:
        self._states = runner.req_states
        self._ended: set[str] = set()
        self._preempted: dict[str, int] = {}
        finish = runner.finish_requests

        def finish_requests(scheduled: SchedulerOutput) -> None:
            self._note(scheduled.finished_req_ids, scheduled.preempted_req_ids or set())
            finish(scheduled)

        runner.finish_requests = finish_requests

    def sampled(self) -> dict[str, int]:
        """As the protocol says."""
        slots: dict[str, int] = self._states.req_id_to_index
        held = self._lengths(list(slots))
        self._preempted = {name: count for name, count in self._preempted.items() if name not in slots}
        ended, self._ended = self._ended, set()
        return dict.fromkeys(ended, ALL_OF_THEM) | self._preempted | held

    def _note(self, finished: set[str], preempted: set[str]) -> None:
        self._preempted |= self._lengths([name for name in preempted if name in self._states.req_id_to_index])
        for name in finished:
            self._preempted.pop(name, None)
        self._ended |= finished

    def _lengths(self, names: list[str]) -> dict[str, int]:
        slots = [self._states.req_id_to_index[name] for name in names]
        # One transfer, which waits for the step that writes them.
        totals = self._states.total_len.gpu[slots].tolist() if slots else []
        prompts = self._states.prompt_len.np[slots].tolist()
        return {name: total - prompt for name, total, prompt in zip(names, totals, prompts, strict=True)}
