"""The ports of a run: those that nobody named move aside, those that somebody named do not."""

from __future__ import annotations

import pytest

from services.checks.preflight import preflight_checks
from services.host.sockets import PortTaken, bind_one, claimed_port, moved
from tests.support.ports import free_ports
from trainer.config import RunConfig
from trainer.errors import ScopeError

HOST = "127.0.0.1"


def test_an_unset_port_is_the_usual_one_if_that_is_free(unused_port: int) -> None:
    with bind_one(HOST, None, unused_port) as listener, claimed_port(HOST, None, free_ports(1)[0]) as port:
        assert listener.getsockname()[1] == unused_port
        assert moved(None, unused_port, unused_port) == ""
        assert port != unused_port


def test_an_unset_port_moves_to_the_next_free_one_and_that_is_said(taken_port: int) -> None:
    with bind_one(HOST, None, taken_port) as listener:
        listener.listen()
        found = listener.getsockname()[1]
        assert taken_port < found < taken_port + 100
        assert moved(None, found, taken_port) == f" ({taken_port} is in use)"
        with claimed_port(HOST, None, taken_port) as another:
            assert another not in (taken_port, found)


def test_a_port_that_somebody_named_does_not_move(taken_port: int) -> None:
    with pytest.raises(PortTaken, match=f"control_plane.port = {taken_port} is taken"):
        bind_one(HOST, taken_port, 8080)
    with (
        pytest.raises(PortTaken, match=f"control_plane.port = {taken_port} is taken"),
        claimed_port(HOST, taken_port, 8080),
    ):
        pass


def test_two_runs_that_start_at_once_take_different_ports(unused_port: int) -> None:
    with claimed_port(HOST, None, unused_port) as one, claimed_port(HOST, None, unused_port) as other:
        assert one != other
        with (
            pytest.raises(PortTaken, match=f"control_plane.port = {one} is taken"),
            claimed_port(HOST, one, 1),
        ):
            pass
    with claimed_port(HOST, None, unused_port) as again:
        assert again == one


def test_a_run_is_checked_for_the_ports_that_it_names(taken_port: int) -> None:
    def fails(**settings: object) -> list[str]:
        checks = preflight_checks(RunConfig.model_validate(settings))
        ports = [check for check in checks if check.field.endswith("port")]
        found = []
        for check in ports:
            try:
                check.run()
            except ScopeError:
                found.append(check.field)
        return found

    assert fails() == []
    assert fails(control_plane={"port": taken_port}, ray={"dashboard_port": taken_port}) == [
        "control_plane.port",
        "ray.dashboard_port",
    ]
