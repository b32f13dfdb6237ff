"""Verifiers of data sets: mathematical answers, a function as in verl, or an HTTP service, all with time limits.

They raise NoScore for a response that they give no score; `trainer.tasks.verification` decides what that means.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Protocol

import httpx

from trainer.config.task import VerifierConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem, Verdict, graded
from trainer.tasks.bounded_pool import BoundedError, BoundedPool, NotLoadedError
from trainer.tasks.datasets.reward_function import FIELD, call_reward_function
from trainer.tasks.failure import ABSTAINS, NoScore, as_number, bounded_components, cause_of

LONGEST_WAIT = 60.0
"""longest wait between two attempts of a request, seconds"""
FINAL = {400, 401, 403, 404, 405, 410, 422}
"""HTTP status codes that are not retried"""
LONGEST_ANSWER = 1 << 20
"""bytes of a service's answer"""


class Verifier(Protocol):
    """Scores a response to a problem whose `data` has `answer` and `extra`."""

    def verify(self, problem: Problem, response: str) -> Verdict:
        """The verdict, within the configured time limit. Raises NoScore, and ScopeError where none can follow."""
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
        """Verdicts: "correct", "wrong", "no answer"."""
        verdict = _called(self._pool, "task.verifier.kind='math'", problem.data["answer"], response)
        correct = float(verdict == "correct")
        return Verdict(correct, {"correct": correct, "format": float(verdict != "no answer")}, verdict)

    def final_answer(self, response: str) -> str | None:
        """The contents of the last box."""
        from trainer.tasks.answers.judge import final_answer

        return final_answer(response)


class FunctionVerifier:
    """verl's `compute_score(data_source, solution_str, ground_truth, extra_info)`: a number, or a dict with `score`.

    Runs in a `BoundedPool`, its import included. Scores are clipped to [0, 1]; other numbers in a dict become
    components; None abstains.
    """

    def __init__(self, config: VerifierConfig, folder: str | None) -> None:
        """Raises ScopeError, with the cause, for a function that cannot be imported or called."""
        if config.function is None:
            raise ScopeError("task.verifier.kind='function' needs task.verifier.function")
        self._reference, self._folder = config.function, folder
        self._where = f"{FIELD}={config.function!r}"
        self._pool = _pool(call_reward_function, config, warm_up=(config.function, folder, None))
        _load(self._pool, self._where)

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Verdicts: "correct" (score 1), "partial", "wrong" (0)."""
        arguments = {
            "data_source": problem.data["source"],
            "solution_str": response,
            "ground_truth": problem.data["answer"],
            "extra_info": dict(problem.data["extra"]),
        }
        score, parts = _called(self._pool, self._where, self._reference, self._folder, arguments)
        if score is None:
            raise NoScore(ABSTAINS, abstains=True)
        return graded(score, bounded_components(parts))

    def final_answer(self, response: str) -> str | None:
        """Always None: the function gives no answers."""
        return None


class HttpVerifier:
    """POSTs {"problem_id", "problem", "answer", "extra", "response"} and reads {"reward", "verdict", "components"}.

    A service that is slow, unreachable or gives invalid answers is asked `attempts` times, with growing pauses. A
    reward of null abstains. A refusal ends the run at once.
    """

    def __init__(self, config: VerifierConfig) -> None:
        if config.url is None:
            raise ScopeError("task.verifier.kind='http' needs task.verifier.url")
        self._url, self._attempts, self._pause = config.url, config.attempts, config.retry_seconds
        self._seconds = config.timeout_seconds
        self._client = httpx.Client(
            timeout=config.timeout_seconds,
            limits=httpx.Limits(max_connections=config.workers),
            headers=_authorization(config.authorization_variable),
        )

    def verify(self, problem: Problem, response: str) -> Verdict:
        """The verdict of the service. Raises NoScore if it gives none, and ScopeError if it refuses."""
        data = problem.data
        body = {"problem_id": problem.id, "problem": data["text"], "answer": data["answer"]}
        body |= {"extra": dict(data["extra"]), "response": response}
        # ASCII, because a text with half of a surrogate pair has no UTF-8.
        content = json.dumps(body, allow_nan=False).encode()
        cause = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(min(self._pause * 2 ** (attempt - 1), LONGEST_WAIT))
            try:
                return _read(self._answer(content))
            except (
                httpx.HTTPError,
                TimeoutError,
                TypeError,
                ValueError,
                LookupError,
                AttributeError,
            ) as error:
                cause = cause_of(error, with_place=False)
        raise NoScore(f"no verdict in {self._attempts} attempts: {cause}")

    def final_answer(self, response: str) -> str | None:
        """Always None: the service gives no answers."""
        return None

    def _answer(self, content: bytes) -> bytes:
        """The body of the service's answer. Raises ScopeError for a refusal, and various errors for other faults."""
        deadline, body = time.monotonic() + self._seconds, bytearray()
        headers = {"Content-Type": "application/json"}
        with self._client.stream("POST", self._url, content=content, headers=headers) as answer:
            if answer.status_code in FINAL:
                raise ScopeError(
                    f"task.verifier.url={self._url!r} refuses the request: {answer.status_code} "
                    f"{answer.reason_phrase}. task.verifier.authorization_variable names its authorization."
                )
            answer.raise_for_status()
            # The client's own limit is that of each read.
            for part in answer.iter_bytes():
                body += part
                if len(body) > LONGEST_ANSWER:
                    raise ValueError(f"its answer is longer than {LONGEST_ANSWER:,} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"its answer takes longer than {self._seconds:g} s")
        return bytes(body)


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


def _read(body: bytes) -> Verdict:
    """The verdict in an answer. Raises various errors if there is none."""
    found = json.loads(body)
    reward, label = found["reward"], found.get("verdict")
    if reward is None:
        raise NoScore(ABSTAINS, abstains=True)
    try:
        score = as_number(reward)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its reward {error}") from None
    return graded(
        score, bounded_components(found.get("components") or {}), label if isinstance(label, str) else None
    )


def _called(pool: BoundedPool, where: str, *arguments: Any) -> Any:
    """The result of a call. Raises NoScore with its cause, and ScopeError, which names `where`, without a process."""
    try:
        return pool.call(*arguments)
    except BoundedError as error:
        raise NoScore(str(error)) from error
    except NotLoadedError as error:
        raise _not_ready(where, error) from error


def _load(pool: BoundedPool, where: str) -> None:
    try:
        pool.load()
    except NotLoadedError as error:
        raise _not_ready(where, error) from error


def _not_ready(where: str, error: NotLoadedError) -> ScopeError:
    return ScopeError(
        f"{where} cannot be made ready in its own process: {error}. task.verifier.load_seconds is the longest time "
        "that it may take."
    )


def _pool(function: Any, config: VerifierConfig, warm_up: tuple[Any, ...]) -> BoundedPool:
    return BoundedPool(
        function,
        workers=config.workers,
        seconds=config.timeout_seconds,
        memory_mib=config.memory_mib,
        warm_up=warm_up,
        load_seconds=config.load_seconds,
    )
