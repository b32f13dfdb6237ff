"""Bearer tokens and the secret files of a run."""

import hashlib
import stat

import pytest
from redis import Redis

from services.access import tokens
from services.access.run_secrets import RunSecrets
from services.redis.keys import RunKeys
from trainer.errors import ScopeError


def principal(redis: Redis, run_id: str, token: str) -> tokens.Principal:
    found = tokens.authenticate(redis, run_id, token)
    assert found is not None
    return found


def test_a_token_is_stored_as_its_hash_and_is_told_apart_by_scope(redis, run_id):
    viewer = tokens.create_token(redis, run_id, "eve", "viewer")
    admin = tokens.create_token(redis, run_id, "ada", "admin")
    stored = redis.hgetall(RunKeys(run_id).tokens)
    assert set(stored) == {hashlib.sha256(token.encode()).hexdigest().encode() for token in (viewer, admin)}
    assert viewer.encode() not in b"".join(stored.values())
    assert tokens.authenticate(redis, run_id, viewer) == ("eve", "viewer")
    assert principal(redis, run_id, admin).may("operator")
    assert not principal(redis, run_id, viewer).may("operator")
    for wrong in ("", "scope_", viewer[:-1], viewer + "x", viewer.upper(), "\ud800"):
        assert tokens.authenticate(redis, run_id, wrong) is None


def test_a_new_token_of_a_name_ends_the_old_one(redis, run_id):
    old = tokens.create_token(redis, run_id, "eve", "viewer")
    new = tokens.create_token(redis, run_id, "eve", "operator")
    assert tokens.authenticate(redis, run_id, old) is None
    assert tokens.authenticate(redis, run_id, new) == ("eve", "operator")


def test_a_token_holds_for_its_run_or_for_every_run(redis, run_id):
    own = tokens.create_token(redis, run_id, "eve", "viewer")
    every = tokens.create_token(redis, None, f"service-{run_id}", "admin")
    assert tokens.authenticate(redis, "another", own) is None
    assert tokens.authenticate(redis, None, own) is None
    assert principal(redis, "another", every).scope == "admin"
    assert tokens.any_token(redis)


def test_a_token_that_can_be_guessed_is_refused(redis, run_id):
    with pytest.raises(ScopeError, match="at least 16"):
        tokens.register_token(redis, run_id, "secret", "eve", "admin")


def test_secrets_are_private_lasting_and_different_for_each_run_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    first, second = RunSecrets(tmp_path / "runs" / "a"), RunSecrets(tmp_path / "runs" / "b")
    first.ensure()
    second.ensure()
    token = first.token()
    assert stat.S_IMODE(first.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.directory.stat().st_mode) == 0o700
    assert not (tmp_path / "runs").exists()

    first.token_file.chmod(0o644)
    RunSecrets(tmp_path / "runs" / ".." / "runs" / "a").ensure()
    assert first.token() == token
    assert stat.S_IMODE(first.token_file.stat().st_mode) == 0o600
    assert second.token() != token
    assert sorted(path.name for path in first.directory.iterdir()) == [
        "run-directory",
        "token",
    ]


def test_secrets_that_cannot_be_kept_or_found_are_explained(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(ScopeError, match="XDG_STATE_HOME"):
        RunSecrets(tmp_path / "run").ensure()
    with pytest.raises(ScopeError, match="no token for the run"):
        RunSecrets(tmp_path / "run").token()
