"""Importing users' tasks and verifiers by `module:object`."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer.config.paths import expanded
from trainer.errors import ScopeError
from trainer.tasks.failure import cause_of


def load_reference(reference: str, folder: str | None, field: str) -> Any:
    """The object `module:object`, of a module in `folder` if that is given.

    Raises ScopeError, which names `field`, with the cause where the module cannot be imported.
    """
    path = None if folder is None else Path(os.path.realpath(expanded(folder)))
    if path is not None:
        if not os.path.isdir(path):
            raise ScopeError(f"task.folder={folder!r} is not a folder.")
        # At the end, so that no file of the folder hides a module of Python or of a library.
        if str(path) not in sys.path:
            sys.path.append(str(path))
    name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(name)
    except ScopeError:
        raise
    # SystemExit: a module that calls sys.exit does not end this process.
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            raise ScopeError(
                f"{field}={reference!r}: there is no module {missing!r}. Set task.folder to its folder."
            ) from error
        raise ScopeError(
            f"{field}={reference!r}: the module cannot be imported: {cause_of(error)}"
        ) from error
    if path is not None:
        _require_inside(module, path, f"{field}={reference!r}")
    if not hasattr(module, attribute):
        raise ScopeError(f"{field}={reference!r}: {name} has no {attribute}.")
    return getattr(module, attribute)


def source_digest(reference: str, folder: str | None, field: str) -> str:
    """SHA-256 of the source file of the object `module:object`. Raises like `load_reference`."""
    module = sys.modules[load_reference(reference, folder, field).__module__]
    return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()


def _require_inside(module: ModuleType, folder: Path, what: str) -> None:
    """Raise ScopeError if `folder` has a module of this name, and `module` is another one."""
    top = module.__name__.partition(".")[0]
    candidates = [path for path in (folder / f"{top}.py", folder / top) if path.exists()]
    places = [module.__file__] if module.__file__ else list(getattr(module, "__path__", []))
    if candidates and not any(Path(place).resolve().is_relative_to(folder) for place in places):
        where = places[0] if places else "part of Python"
        raise ScopeError(
            f"{what}: the module {module.__name__} is {where}, and not {candidates[0]}: rename that file, because "
            "another module has its name."
        )
