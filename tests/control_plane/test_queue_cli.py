"""`scope queue` against a listening control plane: its output and its exit status."""

import json
import threading
import time

import pytest
import uvicorn

from services.access.tokens import create_token
from services.cli import main
from services.control_plane.app import create_app
from services.host.sockets import bind
from tests.support.control_plane import AMPLE, start_run
from tests.support.replay_harness import Queue, die


@pytest.fixture(scope="module")
def url(redis_access):
    """The URL of a control plane on its own port."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(redis_access, AMPLE), log_level="warning"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the control plane did not start within 30 s"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def queue(redis_access, redis, run_id):
    start_run(redis, run_id)
    queue = Queue(redis_access, run_id)
    yield queue
    queue.close()


@pytest.fixture
def scope(url, redis, run_id, queue, monkeypatch, capsys):
    """Run `scope queue …` as an operator; returns exit status, output and message."""
    monkeypatch.setenv("SCOPE_TOKEN", create_token(redis, run_id, "ada", "operator"))

    def scope(*arguments: str) -> tuple[int, str, str]:
        status = main(["queue", *arguments, "--url", url, "--run-id", run_id])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return scope


def letter_ids(scope) -> list[str]:
    status, out, _ = scope("dead-letters", "--json")
    assert status == 0
    return [letter["id"] for letter in json.loads(out)["dead_letters"]]


def test_stats_are_told_in_a_few_lines_and_as_json(scope, queue):
    die(queue, "too old")
    queue.fill(2)
    status, out, err = scope("stats")
    assert (status, err) == (0, "")
    assert "unread 2 of 4096 groups (0%), the oldest for " in out
    assert "dead letters 1 now, 1 ever, 0 requeued, 0 purged; groups lost 1" in out
    status, out, _ = scope("stats", "--json")
    assert (json.loads(out)["unread"], json.loads(out)["counters"]["produced"]) == (2, 3)


def test_dead_letters_are_listed_with_their_reason_and_the_way_to_older_ones(scope, queue):
    die(queue, "too old", "late: learner step 3 is done")
    status, out, _ = scope("dead-letters", "--limit", "1")
    line, more = out.splitlines()
    assert status == 0
    assert "base:1:0 by g0" in line
    assert line.endswith("late: learner step 3 is done")
    status, out, _ = scope("dead-letters", *more.split()[-2:])
    assert "too old" in out
    assert len(out.splitlines()) == 1


def test_letters_are_requeued_and_one_that_is_refused_hinders_no_other(scope, queue):
    die(queue, "a", "b")
    b, a = letter_ids(scope)
    status, out, err = scope("requeue", "17-0", a, "nonsense", b)
    assert status == 2
    assert out.splitlines() == [
        f"{a}: base:0:0 requeued as base:0:1",
        f"{b}: base:1:0 requeued as base:1:1",
    ]
    assert "'17-0' does not exist" in err
    assert "path.letter_id" in err
    assert "Traceback" not in err
    assert scope("requeue", a)[0] == 0, "a repeated request must get the same response"
    status, out, _ = scope("requeue", a, "17-0", "--json")
    answer = json.loads(out)
    assert (status, [r["id"] for r in answer["requeued"]], len(answer["refused"])) == (2, [a], 1)


def test_letters_are_purged_with_a_reason_in_as_many_requests_as_it_takes(scope, queue):
    die(queue, *["too old"] * 70)
    die(queue, *["late"] * 60)
    ids = [letter.letter_id for letter in queue.admin.dead_letters(200)]
    status, out, err = scope("purge", *ids, "--reason", "cleared")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == queue.stats.purged == 130
    assert letter_ids(scope) == []
    status, out, err = scope("purge", ids[0], "17-0", "--reason", "cleared", "--json")
    assert (status, json.loads(out)["unknown"]) == (2, ["17-0"])
    assert "not among the dead letters: 17-0" in err


@pytest.mark.parametrize("reason", ["", "x" * 201, "two\nlines"])
def test_a_reason_that_is_none_is_refused(scope, queue, reason):
    die(queue, "too old")
    (letter,) = letter_ids(scope)
    status, out, err = scope("purge", letter, "--reason", reason)
    assert (status, out) == (2, "")
    assert "body.reason" in err
    assert letter_ids(scope) == [letter]


def test_a_purge_without_a_reason_is_refused_by_the_parser(scope):
    with pytest.raises(SystemExit) as end:
        scope("purge", "1-1")
    assert end.value.code == 2
