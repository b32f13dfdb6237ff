"""Verifiers of data sets: mathematical answers, a function as in verl, or an HTTP service, all with time limits."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import Any, Protocol

import httpx

from trainer.config.task import VerifierConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem, Verdict, graded
from trainer.tasks.bounded_pool import BoundedError, BoundedPool
from trainer.tasks.import_reference import call_reference, load_reference

LONGEST_WAIT = 60.0
"""longest wait between two attempts of a request, seconds"""
FINAL = {400, 401, 403, 404, 405, 410, 422}
"""HTTP status codes that are not retried"""


class Verifier(Protocol):
    """Scores a response to a problem whose `data` has `answer` and `extra`."""

    def verify(self, problem: Problem, response: str) -> Verdict:
        """The verdict, within the configured time limit."""
        ...

    def final_answer(self, response: str) -> str | None:
        """The answer of a response, as in `TaskWithAnswers`."""
        ...


def make_verifier(config: VerifierConfig, folder: str | None) -> Verifier:
    """The configured verifier. Raises ScopeError if a package or the user's function is missing."""
    if config.kind == "http":
        return HttpVerifier(config)
    return FunctionVerifier(config, folder) if config.kind == "function" else MathVerifier(config)


class MathVerifier:
    r"""Reward 1 if the last `\boxed{}` equals the answer. Component `format`: there is an answer."""

    def __init__(self, config: VerifierConfig) -> None:
        try:
            from trainer.tasks.answers.judge import judge
        except ImportError as error:
            raise ScopeError(
                "task.verifier.kind='math' needs the packages math-verify and pint: pip install "
                "'scope-rl-service[cpu]', or [gpu]"
            ) from error
        self._pool = _pool(judge, config, warm_up=("1\\text{ m}", "\\boxed{\\frac{1}{2}\\text{ cm}}"))

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Verdicts: "correct", "wrong", "no answer", "too slow", "out of memory", "verifier died"."""
        try:
            verdict = self._pool.call(problem.data["answer"], response)
        except BoundedError as error:
            return Verdict(0.0, {"correct": 0.0, "format": 1.0}, str(error))
        correct = float(verdict == "correct")
        return Verdict(correct, {"correct": correct, "format": float(verdict != "no answer")}, verdict)

    def final_answer(self, response: str) -> str | None:
        """The contents of the last box."""
        from trainer.tasks.answers.judge import final_answer

        return final_answer(response)


class FunctionVerifier:
    """verl's `compute_score(data_source, solution_str, ground_truth, extra_info)`: a number, or a dict with `score`.

    Runs in a `BoundedPool`. Scores are clipped to [0, 1]; other numbers in a dict become components. An exception of
    the function ends the run.
    """

    def __init__(self, config: VerifierConfig, folder: str | None) -> None:
        if config.function is None:
            raise ScopeError("task.verifier.kind='function' needs task.verifier.function")
        load_reference(config.function, folder, "task.verifier.function")
        self._reference, self._folder = config.function, folder
        self._pool = _pool(call_reference, config, warm_up=(self._reference, folder))

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Verdicts: "correct" (score 1), "partial", "wrong" (0), "too slow", "out of memory", "verifier died"."""
        arguments = {
            "data_source": problem.data["source"],
            "solution_str": response,
            "ground_truth": problem.data["answer"],
            "extra_info": dict(problem.data["extra"]),
        }
        try:
            found = self._pool.call(self._reference, self._folder, arguments)
        except BoundedError as error:
            return Verdict(0.0, {}, str(error))
        parts = dict(found) if isinstance(found, Mapping) else {"score": found}
        return _verdict(parts.pop("score", None), parts, f"task.verifier.function={self._reference!r}")

    def final_answer(self, response: str) -> str | None:
        """Always None: the function gives no answers."""
        return None


class HttpVerifier:
    """POSTs {"problem_id", "problem", "answer", "extra", "response"} and reads {"reward", "verdict", "components"}.

    A service that is slow, unreachable or gives invalid answers `attempts` times in a row, with growing pauses, ends
    the run; so does a refusal, at once. A failure of the service is never a reward of 0.
    """

    def __init__(self, config: VerifierConfig) -> None:
        if config.url is None:
            raise ScopeError("task.verifier.kind='http' needs task.verifier.url")
        self._url, self._attempts, self._pause = config.url, config.attempts, config.retry_seconds
        self._client = httpx.Client(
            timeout=config.timeout_seconds,
            limits=httpx.Limits(max_connections=config.workers),
            headers=_authorization(config.authorization_variable),
        )

    def verify(self, problem: Problem, response: str) -> Verdict:
        """The verdict of the service. Raises ScopeError if there is none."""
        data = problem.data
        body = {"problem_id": problem.id, "problem": data["text"], "answer": data["answer"]}
        body |= {"extra": dict(data["extra"]), "response": response}
        fault: Exception | None = None
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(min(self._pause * 2 ** (attempt - 1), LONGEST_WAIT))
            try:
                answer = self._client.post(self._url, json=body)
                if answer.status_code not in FINAL:
                    return _read(answer)
            except (httpx.HTTPError, ValueError, KeyError, AttributeError, ScopeError) as error:
                fault = error
            else:
                raise ScopeError(
                    f"task.verifier.url={self._url!r} refuses the request: {answer.status_code} "
                    f"{answer.reason_phrase}. task.verifier.authorization_variable names its authorization."
                )
        raise ScopeError(
            f"task.verifier.url={self._url!r} gave no verdict in {self._attempts} attempts: "
            f"{type(fault).__name__}: {fault}"
        ) from fault

    def final_answer(self, response: str) -> str | None:
        """Always None: the service gives no answers."""
        return None


def _authorization(variable: str | None) -> dict[str, str]:
    """The header with the value of the environment variable. Raises ScopeError, which does not contain the value."""
    if variable is None:
        return {}
    secret = os.environ.get(variable, "").strip()
    if not secret or not (secret.isascii() and secret.isprintable()):
        raise ScopeError(
            f"task.verifier.authorization_variable={variable!r} must name an environment variable of the driver and "
            "of every generator with one line of plain text, such as 'Bearer …'."
        )
    return {"Authorization": secret}


def _read(answer: httpx.Response) -> Verdict:
    """The verdict in an answer. Raises various errors if there is none."""
    answer.raise_for_status()
    found = answer.json()
    return _verdict(found["reward"], found.get("components", {}), "its reward", found.get("verdict"))


def _verdict(score: Any, parts: Mapping[str, Any], who: str, label: str | None = None) -> Verdict:
    if isinstance(score, bool):
        score = float(score)
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise ScopeError(f"{who} must give a finite number, not {score!r}.")
    components = {
        str(name): min(max(float(value), 0.0), 1.0)
        for name, value in parts.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return graded(float(score), components, label)


def _pool(function: Any, config: VerifierConfig, warm_up: tuple[Any, ...]) -> BoundedPool:
    return BoundedPool(
        function,
        workers=config.workers,
        seconds=config.timeout_seconds,
        memory_mib=config.memory_mib,
        warm_up=warm_up,
    )
