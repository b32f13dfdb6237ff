"""Weight transfer: the buckets, and the process group that broadcasts them, with real gloo between real members."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from services.weights.buckets import ALIGNMENT, as_text, from_text, pack, plan, unpack
from services.weights.process_group import Rendezvous, TransferError, WeightGroup, open_rendezvous
from services.weights.receiver import WeightReceiver

CPU = torch.device("cpu")
SECONDS = 3.0
TENSORS = st.tuples(
    st.sampled_from([torch.float32, torch.bfloat16, torch.int8]),
    st.lists(st.integers(1, 9), max_size=3),
)


def some_weights(shapes: list[tuple[torch.dtype, list[int]]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        f"w{i}": (100 * torch.rand(shape, generator=generator)).to(dtype)
        for i, (dtype, shape) in enumerate(shapes)
    }


def equal(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return list(found) == list(wanted) and all(
        found[name].dtype == wanted[name].dtype and torch.equal(found[name], wanted[name]) for name in wanted
    )


@given(shapes=st.lists(TENSORS, max_size=12), bucket_bytes=st.integers(1, 4000))
def test_buckets_hold_every_tensor_bit_by_bit_and_no_more_than_they_may(
    shapes: list[tuple[torch.dtype, list[int]]], bucket_bytes: int
) -> None:
    weights = some_weights(shapes)
    buckets = plan(weights, bucket_bytes)
    assert from_text(as_text(buckets)) == buckets
    assert all(bucket.size <= bucket_bytes or len(bucket.entries) == 1 for bucket in buckets)
    assert all(entry.offset % ALIGNMENT == 0 for bucket in buckets for entry in bucket.entries)
    found: dict[str, Tensor] = {}
    for bucket in buckets:
        buffer = pack(bucket, weights, CPU)
        assert buffer.nbytes == bucket.size
        found |= unpack(bucket, buffer)
    assert equal(found, weights)


WEIGHTS = some_weights(
    [(torch.float32, [64, 65]), (torch.bfloat16, [1000]), (torch.int8, []), (torch.float32, [3])]
)
BUCKETS = plan(WEIGHTS, 4096)


def arrived(receiver: WeightReceiver, seconds: float = 20) -> str:
    deadline = time.monotonic() + seconds
    while (state := receiver.state()) is None:
        assert time.monotonic() < deadline, "neither arrived nor failed"
        time.sleep(0.01)
    return state


def send(group: WeightGroup, times: int = 1) -> None:
    for bucket in BUCKETS * times:
        group.broadcast(pack(bucket, WEIGHTS, CPU))


def meet(receivers: list[WeightReceiver], size: int | None = None) -> WeightGroup:
    """Rank 0 of a group with `receivers` as the other ranks; size: world size, if larger."""
    store, rendezvous = open_rendezvous("127.0.0.1", size or 1 + len(receivers), "gloo", SECONDS)
    for rank, receiver in enumerate(receivers, start=1):
        receiver.join(Rendezvous.from_text(rendezvous.as_text()), rank)
    return WeightGroup(rendezvous, 0, CPU, store)


def test_every_member_receives_every_version_whole() -> None:
    assert len(BUCKETS) > 1
    receivers = [WeightReceiver(CPU), WeightReceiver(CPU)]
    group = meet(receivers)
    for _ in range(2):
        for receiver in receivers:
            receiver.receive(BUCKETS)
        assert receivers[0].state() is None
        send(group)
        assert [arrived(receiver) for receiver in receivers] == ["", ""]
        assert all(equal(receiver.take(), WEIGHTS) for receiver in receivers)
    with pytest.raises(TransferError, match="no weights were received"):
        receivers[0].take()


def test_a_member_that_does_not_come_is_waited_for_no_longer_than_was_said() -> None:
    receiver, started = WeightReceiver(CPU), time.monotonic()
    with pytest.raises(TransferError, match="did not connect to all members"):
        meet([receiver], size=3)
    assert SECONDS / 2 < time.monotonic() - started < 5 * SECONDS
    receiver.receive(BUCKETS)
    assert "did not connect to all members" in arrived(receiver)


def test_a_member_that_is_lost_fails_the_broadcast_and_the_next_group_works() -> None:
    stays, goes = WeightReceiver(CPU), WeightReceiver(CPU)
    group = meet([stays, goes])
    stays.receive(BUCKETS)
    goes._thread.submit(setattr, goes, "_membership", None).result()
    with pytest.raises(TransferError, match="bytes of weights failed"):
        send(group, times=100)
    del group
    state = arrived(stays)
    assert state == "" or "bytes of weights failed" in state
    group = meet([stays])
    stays.receive(BUCKETS)
    send(group)
    assert arrived(stays) == ""
    assert equal(stays.take(), WEIGHTS)
