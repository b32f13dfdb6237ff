"""Strict parsing of requests: duplicate names in JSON, bodies that the parser cannot take, unknown query parameters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


class StrictRoute(APIRoute):
    """A route that answers 422 to a JSON body with a duplicate name, not in UTF-8, or nested too deeply to parse.

    It also answers 422 to an unknown query parameter, such as `timout=5`, and to one that is given twice.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Called by FastAPI when it creates the route."""
        handle = super().get_route_handler()
        known = set(self._query_names())

        async def strictly(request: Request) -> Response:
            if wrong := _wrong(request.query_params.multi_items(), known):
                raise RequestValidationError(wrong)
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
            raise json.JSONDecodeError(f"the name {name[:80]!r} is there twice", "", 0)
        found[name] = value
    return found


def _wrong(query: list[tuple[str, str]], known: set[str]) -> list[dict[str, Any]]:
    times = Counter(name for name, _ in query)
    wrong = {name: "extra_forbidden" for name in times if name not in known}
    wrong |= {name: "given_twice" for name, count in times.items() if name in known and count > 1}
    values = dict(query)
    return [
        {"loc": ("query", name[:80]), "type": kind, "input": values[name], "msg": "once"}
        for name, kind in wrong.items()
    ]
