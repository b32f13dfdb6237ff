"""Requests read strictly: JSON bodies that Python's parser would let pass or trip over, queries that nobody reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


class StrictRoute(APIRoute):
    """A route whose body has every name once, is UTF-8, and is not nested or long beyond reading (else 422).

    A query parameter that the route does not have is refused as well: it is a slip, such as `timout=5`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Called by FastAPI once for each route."""
        handle = super().get_route_handler()
        known = set(self._query_names())

        async def strictly(request: Request) -> Response:
            strange = [name for name in request.query_params if name not in known]
            if strange:
                raise RequestValidationError(
                    [_strange(name, request.query_params[name]) for name in dict.fromkeys(strange)]
                )
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly

    def _query_names(self) -> list[str]:
        waiting, names = [self.dependant], []
        while waiting:
            dependant = waiting.pop()
            names += [parameter.alias for parameter in dependant.query_params]
            waiting += dependant.dependencies
        return names


class _StrictRequest(Request):
    async def json(self) -> Any:
        # FastAPI answers a JSONDecodeError with 422 and its text; anything else with 400.
        try:
            text = (await self.body()).decode()
            return json.loads(text, object_pairs_hook=_every_name_once)
        except json.JSONDecodeError:
            raise
        except RecursionError:
            raise json.JSONDecodeError("nested too deeply", "", 0) from None
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from None


def _every_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise json.JSONDecodeError(f"the name {name[:80]!r} comes twice", "", 0)
        found[name] = value
    return found


def _strange(name: str, value: str) -> dict[str, Any]:
    return {"loc": ("query", name[:80]), "type": "extra_forbidden", "input": value}
