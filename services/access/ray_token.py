"""A Ray cluster of this machine alone: every request to it needs a token, and it listens on loopback only.

Ray runs the code of whoever reaches its ports, as the user who started it.
"""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.access.run_secrets import write_secret
from trainer.errors import ScopeError
from trainer.rendezvous import is_loopback

_LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""With 0 Ray takes loopback for the address of this node, by default only on the two systems of its name. It ignores a
loopback address that it is given otherwise."""


@contextmanager
def private_ray(token_file: Path) -> Iterator[None]:
    """Inside the context, Ray clusters that this process and its children start or join are private.

    token_file: holds the token, mode 0600; created if it is missing, in an existing directory. Processes find it by its
    path, so that no argument and no environment variable holds the token itself.
    """
    write_secret(token_file, secrets.token_hex(32))
    # A token for another cluster would come before the file, and Kubernetes would check tokens instead of Ray.
    wanted = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file.resolve()),
        "RAY_AUTH_TOKEN": None,
        "RAY_ENABLE_K8S_TOKEN_AUTH": None,
        _LOOPBACK_VARIABLE: "0",
    }
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def require_loopback() -> None:
    """Raise ScopeError if the node that this process has joined is reachable from other machines."""
    import ray

    address = ray.util.get_node_ip_address()
    if not is_loopback(address):
        raise ScopeError(
            f"Ray {ray.__version__} listens on {address}, where other machines reach it, instead of on loopback: "
            "install the version of Ray that pyproject.toml names."
        )


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    constants: Any = importlib.import_module("ray._private.ray_constants")
    native: Any = importlib.import_module("ray._raylet")
    # Ray reads its environment at import and keeps the token it has read: this process may have imported it before.
    constants.ENABLE_RAY_CLUSTER = os.environ.get(_LOOPBACK_VARIABLE) != "0"
    native.Config.initialize("")
    native.AuthenticationTokenLoader.instance().reset_cache()
