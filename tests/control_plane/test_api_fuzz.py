"""Checks the server against its OpenAPI document with valid and invalid requests from schemathesis.

pytest tests/control_plane/test_api_fuzz.py --api-cases 2000     cases for each group of routes; fewer by default
"""

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from services.access.tokens import create_token
from services.control_plane.app import create_app
from services.entropy_target.store import mark_applied
from services.redis.access import RedisAccess
from services.run.state import add_evaluation
from tests.support.control_plane import AMPLE, start_run

GROUPS = ("health", "runs", "entropy target", "metrics", "tokens", "audit", "queue", "rollouts")
RUN_KNOWN = 3
"""of every four requests that name a run, the number that name an existing one"""
REFUSES_BY_ITS_OWN = ("entropy-target", "/metrics", "/readyz")
"""Routes that may refuse a request that fits the schema: limits of the run, a precondition, names of fields."""


@pytest.fixture(scope="module")
def described(redis_access: RedisAccess):
    """The served document as loaded by schemathesis, and a token that allows everything."""
    with redis_access.sync() as redis:
        start_run(redis, "fuzzed")
        mark_applied(redis, "fuzzed", generation=1, step=0, epoch=0)
        add_evaluation(redis, "fuzzed", 0, {1: 0.2})
        token = create_token(redis, None, "fuzzer", "admin")
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(redis_access, AMPLE))
    return schema, token


def operations(schema, group: str) -> Iterator[APIOperation]:
    """The operations of a group, except the event stream, which does not end."""
    for result in schema.get_all_operations():
        operation = result.ok()
        if group in operation.tags and not operation.path.endswith("/events"):
            yield operation


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", GROUPS)
def test_the_server_keeps_to_its_document(described, group: str, pytestconfig: pytest.Config) -> None:
    schema, token = described
    found = list(operations(schema, group))
    assert found
    wanted = pytestconfig.getoption("--api-cases", default=0) or 0
    parts = list(itertools.product(found, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)))
    parts = [(o, mode) for o, mode in parts if can_be_wrong(o) or mode is GenerationMode.POSITIVE]
    answers: Counter[int] = Counter()
    for operation, mode in parts:
        examine(operation, mode, -(-wanted // len(parts)), token, answers)
    print(f"\n{group}: {sum(answers.values())} requests, answers {dict(sorted(answers.items()))}")
    assert sum(answers.values()) >= min(wanted, 20) or group == "health"
    assert not any(status >= 500 for status in answers if status != 503)


def can_be_wrong(operation: APIOperation) -> bool:
    """Whether a request for the operation can be malformed."""
    return operation.path != "/healthz"


def examine(
    operation: APIOperation, mode: GenerationMode, cases: int, token: str, answers: Counter[int]
) -> None:
    """Send requests and validate the responses against the document."""
    own = any(part in operation.path for part in REFUSES_BY_ITS_OWN)

    @seed(20251)
    @settings(
        max_examples=cases,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],  # pyright: ignore[reportArgumentType]
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case) -> None:
        named = case.path_parameters or {}
        if "run_id" in named and sum(map(ord, str(named["run_id"]))) % (RUN_KNOWN + 1):
            case.path_parameters = {**named, "run_id": "fuzzed"}
        # A request that is invalid because it has no token is sent without one.
        signed = mode is GenerationMode.POSITIVE or "Authorization" in (case.headers or {})
        response = case.call(headers={"Authorization": f"Bearer {token}"} if signed else {})
        answers[int(response.status_code)] += 1
        excluded = [positive_data_acceptance] if own else []
        if operation.path == "/readyz" and response.status_code == 503:
            # The document has this response: it tells a probe that the run is not active.
            excluded.append(not_a_server_error)
        case.validate_response(response, excluded_checks=excluded)

    send()
