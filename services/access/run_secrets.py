"""The files that hold a run's own secrets: its admin token, and beside it the tokens of its Redis and its Ray cluster.

They live outside the run directory, which people copy and publish: in `$XDG_STATE_HOME/scope-rl/<key>/` (by default in
`~/.local/state`), readable by their owner only, where the key is a hash of the run directory's path.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from services.access.tokens import new_token
from trainer.errors import ScopeError


class RunSecrets:
    """The private directory of one run on this machine: its admin token, Ray's token, the embedded Redis's files."""

    def __init__(self, run_dir: str | Path) -> None:
        location = str(Path(run_dir).resolve())
        state = Path(os.environ.get("XDG_STATE_HOME", ""))
        home = state if state.is_absolute() else Path.home() / ".local" / "state"
        self.run_dir = Path(location)
        self.directory = home / "scope-rl" / hashlib.sha256(location.encode()).hexdigest()[:16]

    @property
    def token_file(self) -> Path:
        """Path of the file with the run's admin token."""
        return self.directory / "token"

    @property
    def ray_token_file(self) -> Path:
        """Path of the file with the token of the run's local Ray cluster, which exists once that has started."""
        return self.directory / "ray-token"

    def ensure(self) -> None:
        """Create missing files with mode 0600 in a directory of mode 0700; existing files keep their content.

        Raises `ScopeError` when the state directory cannot be written.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            write_secret(self.directory / "run-directory", str(self.run_dir))
            write_secret(self.token_file, new_token())
        except OSError as error:
            raise ScopeError(
                f"The run's secrets cannot be kept in {str(self.directory)!r}: {error.strerror}. Make it "
                "writable, or name another place in XDG_STATE_HOME (an absolute path)."
            ) from None

    def token(self) -> str:
        """The run's admin token. Raises `ScopeError` when this user on this machine has none."""
        try:
            return self.token_file.read_text().strip()
        except OSError as error:
            raise ScopeError(
                f"There is no token for the run {str(self.run_dir)!r}: {str(self.token_file)!r} cannot be "
                f"read ({error.strerror}). It is kept by the user and on the machine that started the run."
            ) from None


def write_secret(path: Path, text: str) -> None:
    """Create a file atomically, readable by its owner only; keep an existing one."""
    if path.exists():
        path.chmod(0o600)
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as draft:
        draft.write(f"{text}\n")
        draft.flush()
        os.fsync(draft.fileno())
        try:
            os.link(draft.name, path)
        except FileExistsError:
            # Another process of this run has just created it; its secret serves both.
            return
