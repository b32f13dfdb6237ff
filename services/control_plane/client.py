"""A client of the control plane, for the command line and for scripts.

with ControlPlaneClient("http://127.0.0.1:8080", token) as client:
    client.set_entropy_target("quickstart", 0.35, wait=True)
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from services.access.tokens import Scope
from services.control_plane.schemas.base import ProblemBody
from services.control_plane.schemas.entropy_target import EntropyTarget, EntropyTargetHistory
from services.control_plane.schemas.queue import (
    MOST_PURGED,
    DeadLetterOutcome,
    DeadLetterPage,
    PurgeReport,
    QueueState,
)
from services.control_plane.schemas.rollouts import RolloutPage
from services.control_plane.schemas.runs import Audit, Run, RunList, RunSummary
from services.control_plane.schemas.tokens import OwnToken, TokenCreated, TokenList, TokenView
from services.records.sampled_rollouts import RolloutFilter, SampledRollout
from services.run.control import Action

Answer = TypeVar("Answer", bound=BaseModel)

_ANSWER_SECONDS = 15.0
_RECONNECT_SECONDS = 1.0
ROLLOUTS_AT_ONCE = 100


class Event(NamedTuple):
    """One live event."""

    id: str
    kind: str
    """step, evaluation, phase or entropy-target"""
    data: dict[str, Any]


class ControlPlaneError(Exception):
    """The control plane refused the request, failed, or did not answer; the message says which and why.

    `status` is the HTTP status and `problem` the RFC 9457 body; both are None without an answer.
    """

    def __init__(self, message: str, status: int | None = None, problem: ProblemBody | None = None) -> None:
        super().__init__(message)
        self.status, self.problem = status, problem


class ControlPlaneClient:
    """Calls are synchronous and raise `ControlPlaneError`. Targets are nats per token, timeouts seconds."""

    def __init__(self, base_url: str, token: str) -> None:
        try:
            self._http = httpx.Client(
                base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=_ANSWER_SECONDS
            )
        except httpx.InvalidURL as error:
            raise ControlPlaneError(
                f"{base_url!r} is not the address of a control plane: {error}. Write http://HOST:PORT."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def runs(self) -> list[RunSummary]:
        """Every run that the token may read."""
        found: list[RunSummary] = []
        params: dict[str, str] = {}
        while True:
            page = self._ask(RunList, "GET", "/v1/runs", params=params)
            found += page.runs
            if page.next is None:
                return found
            params = {"cursor": page.next}

    def run(self, run_id: str) -> Run:
        """One run."""
        return self._ask(Run, "GET", _path(run_id))

    def entropy_target(self, run_id: str) -> EntropyTarget:
        """The desired entropy target and the one in force."""
        return self._ask(EntropyTarget, "GET", f"{_path(run_id)}/entropy-target")

    def set_entropy_target(
        self,
        run_id: str,
        target: float,
        over_steps: int = 0,
        *,
        known: int | None = None,
        wait: bool = False,
        timeout: float = 30.0,
    ) -> EntropyTarget:
        """Change the entropy target; with `wait`, return when a learner step applies it, or after `timeout`.

        over_steps: learner steps of the linear ramp to the target; 0: at the next step. known: the generation that the
        change is based on; it is refused if there is a newer one. None: change it whatever the generation. A change
        that is not applied within `timeout` remains in effect: the state returned is `pending`.
        """
        # Not `json=`: httpx refuses NaN itself, and the control plane's message is the better one.
        body = json.dumps({"target": target, "over_steps": over_steps})
        return self._change_target("PUT", run_id, known, wait, timeout, content=body)

    def reset_entropy_target(
        self, run_id: str, *, known: int | None = None, wait: bool = False, timeout: float = 30.0
    ) -> EntropyTarget:
        """Return to the configured schedule. Parameters as in `set_entropy_target`."""
        return self._change_target("DELETE", run_id, known, wait, timeout)

    def entropy_history(
        self, run_id: str, limit: int = 100, cursor: str | None = None
    ) -> EntropyTargetHistory:
        """Changes of the entropy target and when they were applied, newest first. cursor: `next` of the last page."""
        params = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
        return self._ask(
            EntropyTargetHistory, "GET", f"{_path(run_id)}/entropy-target/history", params=params
        )

    def events(self, run_id: str, last_event_id: str | None = None) -> Iterator[Event]:
        """Live events, resumed without a gap after a lost connection. Raises ControlPlaneError without a run."""
        while True:
            headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
            try:
                with self._http.stream(
                    "GET", f"{_path(run_id)}/events", headers=headers, timeout=_ANSWER_SECONDS
                ) as response:
                    if not response.is_success:
                        response.read()
                        raise self._refusal(response)
                    for event in _parse_events(response.iter_lines()):
                        last_event_id = event.id
                        yield event
            except httpx.ConnectError as error:
                raise self._no_answer(error) from error
            except httpx.HTTPError:
                time.sleep(_RECONNECT_SECONDS)

    def own_token(self) -> OwnToken:
        """The scopes of this client's token, and when they expire."""
        return self._ask(OwnToken, "GET", "/v1/token")

    def tokens(self, run_id: str | None) -> list[TokenView]:
        """The tokens of a run; None: those valid for every run."""
        return self._ask(TokenList, "GET", _tokens_path(run_id)).tokens

    def create_token(
        self,
        run_id: str | None,
        name: str,
        scope: Scope,
        *,
        expires_in_seconds: int | None = None,
        replace: bool = False,
    ) -> TokenCreated:
        """Create a token for a run (None: for every run). Only this answer contains it."""
        body = {"name": name, "scope": scope, "expires_in_seconds": expires_in_seconds, "replace": replace}
        return self._ask(TokenCreated, "POST", _tokens_path(run_id), json=body)

    def revoke_token(self, run_id: str | None, name: str) -> None:
        """Revoke a token with immediate effect."""
        self._call("DELETE", f"{_tokens_path(run_id)}/{quote(name, safe='')}")

    def audit(self, run_id: str | None, limit: int = 100, cursor: str | None = None) -> Audit:
        """Who changed what, newest first; None: changes to all runs. cursor: `next` of the last page."""
        params = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
        path = "/v1/audit" if run_id is None else f"{_path(run_id)}/audit"
        return self._ask(Audit, "GET", path, params=params)

    def request_action(self, run_id: str, action: Action) -> Run:
        """Request a pause, a resume, an orderly stop or a checkpoint."""
        return self._ask(Run, "POST", f"{_path(run_id)}:{action}")

    def queue(self, run_id: str) -> QueueState:
        """The state of the run's replay queue."""
        return self._ask(QueueState, "GET", f"{_path(run_id)}/queue")

    def dead_letters(self, run_id: str, limit: int = 50, cursor: str | None = None) -> DeadLetterPage:
        """Dead letters (groups that will not be trained on), newest first. cursor: `next` of the last page."""
        params = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
        return self._ask(DeadLetterPage, "GET", f"{_path(run_id)}/queue/dead-letters", params=params)

    def requeue_dead_letter(self, run_id: str, letter_id: str) -> DeadLetterOutcome:
        """Put a dead letter back into the queue. Idempotent."""
        path = f"{_path(run_id)}/queue/dead-letters/{quote(letter_id, safe='')}:requeue"
        return self._ask(DeadLetterOutcome, "POST", path)

    def purge_dead_letters(self, run_id: str, letter_ids: Sequence[str], reason: str) -> PurgeReport:
        """Delete dead letters permanently, `MOST_PURGED` per request. Idempotent."""
        purged: list[DeadLetterOutcome] = []
        unknown: list[str] = []
        for start in range(0, len(letter_ids), MOST_PURGED):
            body = {"ids": list(letter_ids[start : start + MOST_PURGED]), "reason": reason}
            report = self._ask(PurgeReport, "POST", f"{_path(run_id)}/queue/dead-letters:purge", json=body)
            purged += report.purged
            unknown += report.unknown
        return PurgeReport(purged=purged, unknown=unknown)

    def rollouts(self, run_id: str, wanted: RolloutFilter, limit: int) -> Iterator[SampledRollout]:
        """The newest `limit` sampled rollouts that match, newest first; reads as many pages as needed."""
        params: dict[str, Any] = wanted.model_dump(mode="json", exclude_none=True)
        while limit > 0:
            asked = params | {"limit": min(limit, ROLLOUTS_AT_ONCE)}
            page = self._ask(RolloutPage, "GET", f"{_path(run_id)}/rollouts", params=asked)
            yield from page.rollouts
            limit -= len(page.rollouts)
            if page.next is None:
                return
            params["cursor"] = page.next

    def _change_target(
        self, method: str, run_id: str, known: int | None, wait: bool, timeout: float, **body: Any
    ) -> EntropyTarget:
        headers = {
            "Content-Type": "application/json",
            "If-Match": "*" if known is None else f'"{known}"',
            "Idempotency-Key": secrets.token_urlsafe(16),
        }
        return self._ask(
            EntropyTarget,
            method,
            f"{_path(run_id)}/entropy-target",
            params={"wait": "applied", "timeout": timeout} if wait else {},
            timeout=_ANSWER_SECONDS + (timeout if wait else 0),
            headers=headers,
            **body,
        )

    def _ask(self, answer: type[Answer], method: str, path: str, **options: Any) -> Answer:
        """Call, and read the answer."""
        try:
            return answer.model_validate_json(self._call(method, path, **options))
        except ValidationError as error:
            raise ControlPlaneError(
                f"{self._http.base_url} answered {path} with something that this version does not know: it is no "
                "control plane, or one of another version."
            ) from error

    def _call(self, method: str, path: str, **options: Any) -> bytes:
        try:
            try:
                response = self._http.request(method, path, **options)
            except httpx.RemoteProtocolError:
                # The server closed the connection and may have handled the request. Sending it again is safe: it is
                # idempotent, by itself or by its idempotency key.
                response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error
        if response.is_success:
            return response.content
        raise self._refusal(response)

    def _no_answer(self, error: httpx.HTTPError) -> ControlPlaneError:
        return ControlPlaneError(f"The control plane at {self._http.base_url} does not answer: {error}.")

    def _refusal(self, response: httpx.Response) -> ControlPlaneError:
        try:
            problem = ProblemBody.model_validate_json(response.content)
        except ValidationError:
            return ControlPlaneError(
                f"{self._http.base_url} answered {response.status_code} and is not a control plane.",
                response.status_code,
            )
        return ControlPlaneError(f"{problem.title}: {problem.detail}", response.status_code, problem)


def _parse_events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and fields:
            yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


def _tokens_path(run_id: str | None) -> str:
    return "/v1/tokens" if run_id is None else f"{_path(run_id)}/tokens"


def _path(run_id: str) -> str:
    return f"/v1/runs/{quote(run_id, safe='')}"
