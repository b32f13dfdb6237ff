"""A Hugging Face hub cache in the layout of huggingface_hub, and a small hub to download from."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME = "someone/tiny-model"


def add_snapshot(cache: Path, commit: str, files: Path, *, branch: str = "main", name: str = NAME) -> Path:
    """Put the files into the cache as `commit` and point `branch` to it; returns the snapshot directory."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for folder in (repository / "blobs", repository / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    for file in files.iterdir():
        blob = repository / "blobs" / hashlib.sha1(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", blob.name))
    (repository / "refs" / branch).write_text(commit)
    return snapshot


@contextmanager
def serving(files: Path, commit: str) -> Iterator[tuple[str, list[str]]]:
    """Serve a hub with one repository, `NAME`; yields its address and the names of the files fetched from it."""
    fetched: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == f"/api/models/{NAME}/revision/main":
                self._answer(json.dumps({"_id": "1", "id": NAME, "sha": commit}).encode())
            elif path == f"/api/models/{NAME}/tree/{commit}":
                tree = [
                    {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _oid(f)}
                    for f in files.iterdir()
                ]
                self._answer(json.dumps(tree).encode())
            elif path.startswith(f"/{NAME}/resolve/{commit}/"):
                file = files / path.rpartition("/")[2]
                if self.command == "GET":
                    fetched.append(file.name)
                self._answer(file.read_bytes(), {"ETag": f'"{_oid(file)}"', "X-Repo-Commit": commit})
            else:
                self._answer(b"{}", {"X-Error-Code": "RepoNotFound"}, status=404)

        def _answer(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
            self.send_response(status)
            for name, value in ((headers or {}) | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", fetched
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
