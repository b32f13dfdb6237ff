"""A token of the run under test."""

import pytest

from services.access.tokens import Scope, create_token


@pytest.fixture
def bearer(redis, run):
    """Headers with a token of the given scope on the run; a change is made from whatever state there is."""

    def bearer(scope: Scope) -> dict[str, str]:
        return {"Authorization": f"Bearer {create_token(redis, run, scope, scope)}", "If-Match": "*"}

    return bearer
