"""Where ranks meet: on one address, and on one machine over loopback."""

from __future__ import annotations

import os
from datetime import timedelta

import psutil
import pytest

from trainer.rendezvous import OVER_LOOPBACK, connect_store, is_loopback, open_store, stay_on_loopback

TIMEOUT = timedelta(seconds=30)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_a_store_listens_on_its_host_alone(host: str) -> None:
    store = open_store(host, 0, 2, TIMEOUT)
    links = psutil.Process().net_connections("tcp")
    listening = {link.laddr.ip for link in links if link.laddr.port == store.port and link.status == "LISTEN"}
    assert len(listening) == 1
    assert all(is_loopback(address) for address in listening)
    other = connect_store(host, store.port, 2, TIMEOUT)
    other.set("key", "value")
    assert store.get("key") == b"value"


def test_groups_stay_on_loopback_if_their_ranks_meet_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OVER_LOOPBACK:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    stay_on_loopback("192.0.2.7")
    assert not OVER_LOOPBACK.keys() & os.environ.keys()
    stay_on_loopback("127.0.0.1")
    assert OVER_LOOPBACK.items() <= os.environ.items()


@pytest.mark.parametrize(
    ("host", "is_so"), [("::1", True), ("localhost", True), ("10.0.0.1", False), ("a.example", False)]
)
def test_loopback_is_known_by_address_and_name(host: str, is_so: bool) -> None:
    assert is_loopback(host) == is_so
