"""`scope token`: creates, lists, shows and revokes tokens from a shell."""

import json
from collections.abc import Iterator

import pytest

from services.access.tokens import create_token
from services.cli.main import main
from services.control_plane.app import create_app
from services.control_plane.server import ServerThread
from services.host.sockets import bind
from tests.support.control_plane import AMPLE


@pytest.fixture(scope="module")
def url(redis_access) -> Iterator[str]:
    listener = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = ServerThread(create_app(redis_access, AMPLE), listener)
    assert server.alive
    yield address
    server.stop()
    assert not server.alive


@pytest.fixture
def token(url, monkeypatch, capsys):
    """Run `scope token …` with the given token; returns exit status, output and message."""

    def token(bearer: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("SCOPE_TOKEN", bearer)
        status = main(["token", *arguments, "--url", url])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return token


def test_a_token_is_made_asked_about_listed_and_revoked(token, redis, run):
    admin = create_token(redis, run, "ada", "admin")
    named = ("--run-id", run)
    status, made, _ = token(admin, "create", "--name", "eve", "--scope", "viewer", "--expires", "30d", *named)
    assert status == 0
    made = made.strip()

    status, out, _ = token(made, "whoami")
    assert (status, out.partition(", until ")[0]) == (0, f"eve: viewer on run {run}")
    status, out, _ = token(made, "whoami", "--json")
    (grant,) = json.loads(out)["grants"]
    assert (grant["run_id"], grant["name"], grant["scope"]) == (run, "eve", "viewer")

    status, out, _ = token(admin, "list", *named)
    assert [line.split()[:2] for line in out.splitlines()] == [["ada", "admin"], ["eve", "viewer"]]
    assert token(admin, "revoke", "eve", *named)[0] == 0
    status, _, err = token(made, "whoami")
    assert status == 2
    assert "This token is not valid." in err


def test_a_token_of_every_run_says_so(token, redis, run):
    every = create_token(redis, None, f"all-{run}", "operator")
    assert token(every, "whoami") == (0, f"all-{run}: operator on every run, does not expire\n", "")
