"""Strict parsing of requests: JSON bodies, query parameters that are known and given once, numbers in ASCII digits."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, get_args

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import Headers

_ONCE_ANYWHERE = {"authorization", "content-type"}
_LISTS = {"if-match"}
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,4})?")


class StrictRoute(APIRoute):
    """A route that answers 422 to a JSON body with a duplicate name, not in UTF-8, or nested too deeply to parse.

    It also answers 422 to an unknown query parameter, such as `timout=5`, to one whose number is spelled as JSON has
    none, such as `1_0`, and to a query parameter or a header field that is given twice, unless the field is a list.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Called by FastAPI when it creates the route."""
        handle = super().get_route_handler()
        dependants = self._dependants()
        query = [field for dependant in dependants for field in dependant.query_params]
        known = {field.alias for field in query}
        numbers = {field.alias for field in query if _is_number(field.field_info.annotation)}
        once = {field.alias.lower() for dependant in dependants for field in dependant.header_params}
        once = (once | _ONCE_ANYWHERE) - _LISTS

        async def strictly(request: Request) -> Response:
            wrong = _wrong(request.query_params.multi_items(), known, numbers)
            wrong += _repeated(request.headers, once)
            if wrong:
                raise RequestValidationError(wrong)
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly

    def _dependants(self) -> list[Dependant]:
        """The route's function and everything that it depends on."""
        waiting, found = [self.dependant], []
        while waiting:
            found.append(waiting.pop())
            waiting += found[-1].dependencies
        return found


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


def _is_number(annotation: Any) -> bool:
    """Whether a parameter is a number, or one that may be absent."""
    return bool({int, float} & {annotation, *get_args(annotation)})


def _wrong(query: list[tuple[str, str]], known: set[str], numbers: set[str]) -> list[dict[str, Any]]:
    times = Counter(name for name, _ in query)
    values = dict(query)
    wrong = {name: ("extra_forbidden", "") for name in times if name not in known}
    wrong |= {
        name: ("number", "a number in ASCII digits")
        for name in times.keys() & numbers
        if not _NUMBER.fullmatch(values[name])
    }
    wrong |= {name: ("given_twice", "once") for name, count in times.items() if name in known and count > 1}
    return [
        {"loc": ("query", name[:80]), "type": kind, "input": values[name], "msg": allowed}
        for name, (kind, allowed) in wrong.items()
    ]


def _repeated(headers: Headers, once: set[str]) -> list[dict[str, Any]]:
    times = {name: len(headers.getlist(name)) for name in once}
    # The values may be secret.
    return [
        {"loc": ("header", name), "type": "given_twice", "input": f"{count} fields", "msg": "once"}
        for name, count in sorted(times.items())
        if count > 1
    ]
