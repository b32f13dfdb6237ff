"""Importing users' tasks and verifiers by `module:object`."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config.paths import expanded
from trainer.errors import ScopeError


def load_reference(reference: str, folder: str | None, field: str) -> Any:
    """The object `module:object`, searched in `folder` first. Raises ScopeError, which names `field`."""
    if folder is not None:
        path = Path(os.path.realpath(expanded(folder)))
        if not os.path.isdir(path):
            raise ScopeError(f"task.folder={folder!r} is not a folder.")
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ScopeError(
            f"{field}={reference!r}: there is no module {error.name!r}. Set task.folder to its folder."
        ) from error
    except AttributeError as error:
        raise ScopeError(f"{field}={reference!r}: {module} has no {name}.") from error


def source_digest(reference: str, folder: str | None, field: str) -> str:
    """SHA-256 of the source file of the object `module:object`. Raises like `load_reference`."""
    module = sys.modules[load_reference(reference, folder, field).__module__]
    return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()


def call_reference(reference: str, folder: str | None, arguments: Mapping[str, Any] | None = None) -> Any:
    """Load the object and, given arguments, call it; for use in a `BoundedPool`."""
    found = load_reference(reference, folder, "task.verifier.function")
    return None if arguments is None else found(**arguments)
