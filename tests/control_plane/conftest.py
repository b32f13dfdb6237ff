"""A bearer token for the run under test."""

import pytest

from services.access.tokens import Scope, create_token


@pytest.fixture
def bearer(redis, run):
    """Headers with a token of the given scope on the run, and an `If-Match` that accepts any state."""

    def bearer(scope: Scope) -> dict[str, str]:
        return {"Authorization": f"Bearer {create_token(redis, run, scope, scope)}", "If-Match": "*"}

    return bearer
