"""Connects to the control plane in a Kubernetes cluster with `kubectl port-forward`."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

from services.host.die_with_parent import die_with_parent
from trainer.errors import ScopeError

SERVICE, PORT = "control-plane", 80
"""name and port of the service in k8s/base/platform/control-plane.yaml"""
START_SECONDS = 20.0
_FORWARDING = re.compile(r"Forwarding from (127\.0\.0\.1:[0-9]{1,5}) ->")


@contextmanager
def forwarded(context: str, namespace: str) -> Iterator[str]:
    """Forward a free loopback port to the control plane in `namespace` of kubectl's `context`; yields its URL.

    kubectl ends with the block. Raises ScopeError when kubectl is not installed, or does not reach the service within
    20 seconds.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise ScopeError(
            "--context needs kubectl, which is not installed. Install it, or name the control plane with --url."
        )
    command = [program, "--context", context, "--namespace", namespace]
    command += ["port-forward", "--address", "127.0.0.1", f"service/{SERVICE}", f":{PORT}"]
    with TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            die_with_parent(command), stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        assert process.stdout is not None
        patience = threading.Timer(START_SECONDS, process.kill)
        patience.start()
        try:
            found = _FORWARDING.match(process.stdout.readline())
            patience.cancel()
            if not found:
                process.kill()
                process.wait()
                complaints.seek(0)
                said = complaints.read().strip() or f"no answer within {START_SECONDS:g} seconds"
                raise ScopeError(f"--context {context}, --namespace {namespace}: {said}")
            yield f"http://{found[1]}"
        finally:
            patience.cancel()
            process.terminate()
            process.wait()
            process.stdout.close()
