"""Digits, spaces and letters of every script, wherever a request has room for text, make no request fail."""

import json
import unicodedata
from typing import NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.access.tokens import create_token
from services.control_plane.app import create_app
from services.redis.access import RedisAccess
from services.redis.streams import STREAM_ID
from tests.support.control_plane import start_run

EVERY = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
DIGITS = [character for character in EVERY if character.isdigit() or character.isnumeric()]
SPACES = [
    character for character in EVERY if character.isspace() or unicodedata.category(character) in ("Zs", "Cf")
]
LETTERS = [*"ıſKßİÅΣς", *"ａＡ１＿．－", "e\u0301", "\ufffd", "\ufeff", "\U0001f600", "\u202e"]
CONTROLS = [*map(chr, [*range(0x20), 0x7F, 0x85, 0x9F]), "\u2028", "\u2029"]
EXOTIC = st.one_of(*(st.sampled_from(group) for group in (DIGITS, SPACES, LETTERS, CONTROLS)))
VALID = {
    "letter_id": "17-0",
    "cursor": "17-0",
    "name": "ada",
    "last-event-id": "17-0_17-0",
    "if-match": '"1"',
}


class Place(NamedTuple):
    """A parameter of an operation."""

    method: str
    path: str
    where: str
    """path, query or header"""
    name: str


def places() -> list[Place]:
    """Every parameter of every operation."""
    document = create_app(RedisAccess("redis://unused")).openapi()
    return [
        Place(method.upper(), path, parameter["in"], parameter["name"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for parameter in operation.get("parameters", [])
    ]


PLACES = places()


@pytest.fixture(scope="module")
def token(redis_access: RedisAccess) -> str:
    """A token that allows everything, on a run `u1-0`."""
    with redis_access.sync() as redis:
        start_run(redis, "u1-0")
        return create_token(redis, None, "unicode", "admin")


@st.composite
def spoiled(draw: st.DrawFn, place: Place) -> str:
    """A valid value of the parameter, with exotic characters somewhere."""
    valid = VALID.get(place.name, "u1-0" if place.name == "run_id" else "1")
    cut = draw(st.integers(0, len(valid)))
    kept = draw(st.integers(cut, len(valid)))
    return valid[:cut] + "".join(draw(st.lists(EXOTIC, min_size=1, max_size=3))) + valid[kept:]


def test_there_are_parameters_of_every_kind() -> None:
    assert {place.where for place in PLACES} == {"path", "query", "header"}
    assert len(DIGITS) > 700


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_text_makes_a_request_fail(client, token, data) -> None:
    place = data.draw(st.sampled_from(PLACES))
    value = data.draw(spoiled(place))
    path, headers = place.path, {"Authorization": f"Bearer {token}".encode(), "if-match": b"*"}
    for name in ("run_id", "letter_id", "name"):
        own = place.where == "path" and place.name == name
        text = value if own else "u1-0" if name == "run_id" else VALID[name]
        path = path.replace(f"{{{name}}}", quote(text, safe=""))
    query = f"?{place.name}={quote(value, safe='')}" if place.where == "query" else ""
    if place.where == "header":
        headers[place.name] = value.encode().replace(b"\r", b"").replace(b"\n", b"")
    if path.endswith("/events") and place.where != "header":
        return
    if path.endswith("/events"):
        headers["last-event-id"] += b"x"  # never valid, or the stream would not end
    body = {"json": {"target": 0.4}} if place.method in ("PUT", "PATCH") else {}
    answer = client.request(place.method, path + query, headers=headers, **body)
    # The document has this answer: the run of that name is not at work.
    not_ready = place.path == "/readyz" and answer.status_code == 503
    assert answer.status_code < 500 or not_ready, (place, value, answer.text)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    route=st.sampled_from(
        [
            ("PUT", "/v1/runs/u1-0/entropy-target"),
            ("POST", "/v1/tokens"),
            ("POST", "/v1/runs/u1-0/queue/dead-letters:purge"),
        ]
    ),
    name=st.one_of(
        st.sampled_from(["name", "reason", "target", "scope", "ids"]),
        EXOTIC,
        st.characters(categories=["Cs"]),
    ),
    value=st.recursive(
        st.one_of(EXOTIC, st.characters(categories=["Cs"]), st.floats(), st.integers()),
        st.lists,
        max_leaves=3,
    ),
)
def test_no_body_makes_a_request_fail(client, token, route, name, value) -> None:
    headers = {"Authorization": f"Bearer {token}", "If-Match": "*", "Content-Type": "application/json"}
    answer = client.request(*route, headers=headers, content=json.dumps({name: value}))
    assert answer.status_code < 500, (route, name, value, answer.text)


@pytest.mark.parametrize("digit", ["\u0662", "\uff11", "\U0001d7d9", "\u00b2", "\u2460"])
def test_digits_of_other_scripts_are_no_digits(client, token, digit) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    for path in (
        f"/v1/runs/u1-0/entropy-target/history?cursor=1{digit}-0",
        f"/v1/runs/u1-0/rollouts?cursor=1-{digit}",
        f"/v1/runs/u1-0/audit?cursor={digit}-0",
        f"/v1/runs/u1-0/queue/dead-letters?cursor=1-0{digit}",
        f"/v1/audit?limit={digit}",
    ):
        assert client.get(path, headers=headers).status_code == 422, path


@pytest.mark.parametrize("spelling", ["1_0", "+5", " 5", "5 ", "5\n", "0x5", "５", "1__0", "", "nan", "1e"])
def test_numbers_are_spelled_as_in_json(client, token, spelling) -> None:
    answer = client.get("/v1/audit", params={"limit": spelling}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "query.limit"


def test_the_pattern_of_cursors_allows_ascii_digits_alone() -> None:
    assert "[0-9]" in STREAM_ID
    assert "\\d" not in STREAM_ID
