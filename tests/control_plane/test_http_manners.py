"""What HTTP asks of any server: hosts, methods, paths, codings, entity tags, and answers that say what is allowed."""

import json
import re
from collections.abc import Iterator

import pytest
from redis import Redis

from services.access.tokens import create_token
from services.control_plane.http.entity_tags import entity_tags
from services.control_plane.http.hosts import HostNames
from services.redis.access import RedisAccess
from tests.support.control_plane import AMPLE, entropy_target_of, start_run
from tests.support.raw_http import Address, RawAnswer, answer, asked, connected, request, serving
from tests.support.repository import ROOT
from trainer.config import ControlPlaneConfig
from trainer.config.load import default_config

TARGET = "/v1/runs/mannered/entropy-target"
CHANGE = json.dumps({"target": 0.4}).encode()


@pytest.fixture(scope="module")
def server(redis_access: RedisAccess) -> Iterator[Address]:
    """A control plane over sockets, with one run."""
    with redis_access.sync() as redis:
        start_run(redis, "mannered")
    with serving(redis_access, AMPLE.model_copy(update={"allowed_hosts": ("Scope.Example",)})) as address:
        yield address


@pytest.fixture(scope="module")
def token(redis_access: RedisAccess) -> str:
    """A header field with a token that allows everything."""
    with redis_access.sync() as redis:
        return f"Authorization: Bearer {create_token(redis, None, 'mannered', 'admin')}"


def changed(server: Address, token: str, *fields: str, body: bytes = CHANGE) -> RawAnswer:
    """The answer to a change of the target."""
    given = (token, "Content-Type: application/json", f"Content-Length: {len(body)}", *fields)
    return asked(server, request("PUT", TARGET, *given, body=body))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", TARGET, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("PUT", "/v1/runs/mannered/tokens", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/v1/tokens/ada", "DELETE, OPTIONS"),
        ("DELETE", "/v1/runs/mannered:pause", "OPTIONS, POST"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("POST", "/page/run.css", "GET, HEAD, OPTIONS"),
        ("BREW", "/healthz", "GET, HEAD, OPTIONS"),
        ("TRACE", "/healthz", "GET, HEAD, OPTIONS"),
        ("PROPFIND", "/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
def test_405_names_every_method_of_the_path(server: Address, method: str, path: str, allowed: str) -> None:
    found = asked(server, request(method, path))
    assert (found.status, found.headers["allow"]) == (405, allowed)
    found.problem()


def test_options_names_every_method_of_the_path(server: Address) -> None:
    found = asked(server, request("OPTIONS", TARGET))
    assert (found.status, found.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT")
    assert "access-control-allow-origin" not in found.headers
    assert asked(server, request("OPTIONS", "*")).status == 204
    assert asked(server, request("OPTIONS", "/v1/nowhere")).status == 404


@pytest.mark.parametrize("method", ["CONNECT", "OPTIONS", "GET", "BREW"])
@pytest.mark.parametrize(
    "target", ["example.org:443", "/v1/nowhere", "//v1/runs", "/v1//runs", "/../v1/runs"]
)
def test_what_is_not_there_is_a_problem_whatever_the_method(
    server: Address, method: str, target: str
) -> None:
    found = asked(server, request(method, target))
    assert found.status == 404
    found.problem()


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/", TARGET, "/v1/runs", "/v1/token"]
)
def test_head_is_get_without_the_body(server: Address, token: str, path: str) -> None:
    whole = asked(server, request("GET", path, token))
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(request("HEAD", path, token))
            head = answer(connection, head_only=True)
            assert (head.status, head.body) == (200, b"")
            assert head.headers.keys() == whole.headers.keys()
    # These tell ages, whose digits change.
    if path not in ("/metrics", "/v1/runs"):
        assert head.headers["content-length"] == whole.headers["content-length"]


def test_head_of_the_event_stream_ends(server: Address, token: str) -> None:
    with connected(server) as connection:
        for path in ("/v1/runs/mannered/events", "/healthz"):
            connection.sendall(request("HEAD", path, token))
            assert answer(connection, head_only=True).status == 200


def test_head_is_refused_as_get_is(server: Address) -> None:
    found = asked(server, request("HEAD", "/v1/runs"), head_only=True)
    assert found.status == 401
    assert "www-authenticate" in found.headers
    assert asked(server, request("HEAD", "/v1/runs/mannered:pause"), head_only=True).status == 405


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:8080", "[::1]:80", "localhost.", "a.localhost"],
)
@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_a_loopback_host_is_accepted(server: Address, host: str, path: str) -> None:
    assert asked(server, request("GET", path, f"Host: {host}")).status == 200


@pytest.mark.parametrize("host", ["scope.example", "SCOPE.example:443"])
def test_a_configured_host_is_accepted(server: Address, host: str) -> None:
    assert asked(server, request("GET", "/", f"Host: {host}")).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "10.1.2.3"],
)
@pytest.mark.parametrize("path", ["/", "/v1/runs", "/readyz", "/v1/nowhere"])
def test_another_host_is_refused(server: Address, token: str, host: str, path: str) -> None:
    found = asked(server, request("GET", path, f"Host: {host}", token))
    assert found.status == 421
    assert host.split(":")[0] in found.problem()["detail"]


@pytest.mark.parametrize(
    "host", ["", "a b", "user@localhost", "localhost:http", "[::1", "localhost, evil", "ſ"]
)
def test_a_malformed_host_is_refused(server: Address, host: str) -> None:
    found = asked(server, request("GET", "/", f"Host: {host}".encode().decode("latin-1")))
    assert found.status == 400
    found.problem()


def test_the_host_of_an_absolute_target_counts(server: Address) -> None:
    assert asked(server, request("GET", "http://localhost/healthz")).status == 200
    assert asked(server, request("GET", "http://evil.example/healthz")).status == 421
    assert asked(server, b"GET /healthz HTTP/1.0\r\n\r\n").status == 200


def test_the_address_of_the_connection_is_a_host_so_that_probes_by_address_are_answered() -> None:
    names = HostNames(ControlPlaneConfig(host="0.0.0.0", allowed_hosts=("control-plane", "10.96.0.7")))
    for host, local in [
        ("10.244.0.5:8080", "10.244.0.5"),
        ("10.244.0.5", "::ffff:10.244.0.5"),
        ("[fd00:0::5]:80", "fd00::5"),
        ("10.96.0.7", "10.244.0.5"),
        ("control-plane:8080", "10.244.0.5"),
        ("0.0.0.0:8080", "10.244.0.5"),
    ]:
        assert names.refusal([host], local) is None, host
    refused = names.refusal(["10.244.0.6"], "10.244.0.5")
    assert refused is not None
    assert refused.status_code == 421


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
def test_an_encoded_slash_leads_to_no_other_route(server: Address, token: str, slash: str) -> None:
    for path in (
        f"/v1/runs/mannered{slash}queue",
        f"/v1{slash}runs",
        f"/page/..{slash}app.py",
        f"{slash}healthz",
    ):
        found = asked(server, request("GET", path, token))
        assert found.status == 404, path
        found.problem()


@pytest.mark.parametrize("tail", ["%0A", "%0D%0A", "%00", "%09", "%7F"])
def test_a_control_character_in_a_path_leads_nowhere(server: Address, token: str, tail: str) -> None:
    for path in ("/healthz", "/v1/runs/mannered", "/openapi.json", TARGET):
        found = asked(server, request("GET", path + tail, token))
        assert found.status == 404, path
        found.problem()


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP", "x-unknown"])
def test_an_encoded_body_is_refused(server: Address, token: str, coding: str) -> None:
    found = changed(server, token, "If-Match: *", f"Content-Encoding: {coding}")
    assert (found.status, found.headers["accept-encoding"]) == (415, "identity")
    assert "content-encoding" in found.problem()["detail"]


def test_an_encoding_that_changes_nothing_is_accepted(server: Address, token: str) -> None:
    assert changed(server, token, "If-Match: *", "Content-Encoding: identity").status == 202


def test_if_match_is_one_list_though_it_is_sent_in_several_fields(
    server: Address, token: str, redis: Redis
) -> None:
    def newest() -> str:
        return f'"{entropy_target_of(redis, "mannered").generation}"'

    for fields in (
        ["If-Match: {}"],
        ['If-Match: "999", {}'],
        ['If-Match: "a,b" , , {} ,'],
        ["If-Match: {}", 'If-Match: "999"'],
        ['If-Match: "999"', "If-Match: {}"],
        ['If-Match: W/"999", "\xff"', "If-Match: {}"],
        ["If-Match: *"],
    ):
        given = [field.replace("{}", newest()) for field in fields]
        assert changed(server, token, *given).status == 202, given
    for given in (
        ['If-Match: "999"'],
        ['If-Match: "998"', 'If-Match: "999"'],
        [f"If-Match: W/{newest()}"],
        [f'If-Match: "x,{newest()[1:]}'],
    ):
        assert changed(server, token, *given).status == 412, given
    for given in (
        ["If-Match: 7"],
        ["If-Match:"],
        ["If-Match: ,"],
        [f"If-Match: *, {newest()}"],
        ["If-Match: *", f"If-Match: {newest()}"],
        ["If-Match: *", "If-Match: *"],
        [f"If-Match: w/{newest()}"],
        [f"If-Match: {newest()} {newest()}"],
        [f"If-Match: {newest()}, x"],
        ['If-Match: "' + '", "'.join("a" * 3000) + "x"],
    ):
        found = changed(server, token, *given)
        assert found.status == 422, given
        found.problem()


def test_a_field_that_is_no_list_is_refused_when_it_is_sent_twice(server: Address, token: str) -> None:
    for field in ("Idempotency-Key: a", token, "Content-Type: application/json"):
        found = changed(server, token, "If-Match: *", "Idempotency-Key: b", field)
        assert found.status == 422, field
        assert found.problem()["errors"][0]["allowed"] == "once"
        assert token.split()[-1] not in found.body.decode()


def test_a_known_page_is_not_sent_again_whatever_list_names_it(server: Address) -> None:
    tag = asked(server, request("GET", "/")).headers["etag"]
    for fields in (
        [f"If-None-Match: W/{tag}"],
        ['If-None-Match: "a,b"', f"If-None-Match: {tag}"],
        ["If-None-Match: *"],
    ):
        assert asked(server, request("GET", "/", *fields), head_only=True).status == 304
    assert asked(server, request("GET", "/", 'If-None-Match: "other"')).status == 200


def test_lists_of_entity_tags_are_read_in_linear_time() -> None:
    assert entity_tags(['"a", W/"b"', '"c,d"']) == [(False, "a"), (True, "b"), (False, "c,d")]
    assert entity_tags([" " * 16_000 + "x"]) is None
    assert entity_tags(['"a"' + " , " * 5_000 + "x"]) is None


@pytest.mark.parametrize(
    "path", ["/openapi.json", "/healthz", "/readyz", "/readyz?run=mannered", "/", "/page/run.css"]
)
def test_what_anyone_may_read_needs_no_token(server: Address, path: str) -> None:
    assert asked(server, request("GET", path)).status in (200, 503)


@pytest.mark.parametrize("file", ["docker-compose.yml", "k8s/base/platform/control-plane.yaml"])
def test_the_names_of_the_deployed_service_are_accepted(file: str) -> None:
    (setting,) = re.findall(r"--set=(allowed_hosts=\[[^]]*\])", (ROOT / file).read_text())
    names = HostNames(
        default_config(["control_plane.host=0.0.0.0", f"control_plane.{setting}"]).control_plane
    )
    assert names.refusal(["control-plane:8080"], "10.244.0.5") is None
    assert names.refusal(["10.244.0.5:8080"], "10.244.0.5") is None
    assert names.refusal(["evil.example"], "10.244.0.5") is not None
