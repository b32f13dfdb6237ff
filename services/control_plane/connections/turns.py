"""Turns: of clients that have not shown a valid token, each network has a few requests in progress at a time.

Finding out that a token is not valid takes about as long as a read. Without turns, hundreds of such requests at once
would delay every other answer by all of them; with turns they delay one another.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from starlette.types import Message, Receive, Send

ON_VALID_TOKEN = "on_valid_token"
"""Name in a request's state of a function that authentication calls, from any thread, for a token that is valid."""
AT_ONCE = 4


class Turns:
    """The requests in progress by network. For use on one event loop."""

    def __init__(self) -> None:
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def turn(self, network: str) -> Turn:
        """A turn of the network, not begun yet."""
        places = self._places.get(network)
        if places is None:
            places = self._places[network] = asyncio.Semaphore(AT_ONCE)
        return Turn(places)


class Turn:
    """One request's place among those in progress. It has none while it waits for its client, and when it is over."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places, self._held, self._over = places, False, False

    async def begin(self) -> None:
        """Wait for a place, in the order of the calls."""
        if not self._over:
            await self._places.acquire()
            self._held = True
            if self._over:
                self._give_back()

    def end(self) -> None:
        """Give the place back for good: the answer has begun, or the token is valid."""
        self._over = True
        self._give_back()

    def receiving(self, receive: Receive) -> Receive:
        """`receive`, without a place meanwhile."""

        async def received() -> Message:
            self._give_back()
            message = await receive()
            await self.begin()
            return message

        return received

    def sending(self, send: Send) -> Send:
        """`send`; the first message ends the turn."""

        async def sent(message: Message) -> None:
            self.end()
            await send(message)

        return sent

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._places.release()
