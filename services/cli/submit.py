"""`scope submit`: start a run on Kubernetes, from an overlay of k8s/ and a configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from services.cli.output import say, say_lines
from services.cli.parser import add_examples, path_argument


def add_submit(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope submit`."""
    parser.add_argument("config", type=path_argument, help="YAML file; replaces the overlay's run.yaml")
    parser.add_argument("--overlay", required=True, metavar="NAME", help="a folder in MANIFESTS/overlays")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="A.B=C", help="override a field"
    )
    parser.add_argument(
        "--run-id", help="at most 47 of a-z, 0-9 and '-'; default: the file's name and the time"
    )
    parser.add_argument(
        "--manifests", type=path_argument, default=Path("k8s"), metavar="DIR", help="default: ./k8s"
    )
    parser.add_argument("--context", help="kubectl context; default: the current one")
    parser.add_argument(
        "--print", dest="only_print", action="store_true", help="print the objects instead of applying them"
    )
    add_examples(
        parser,
        "scope submit deploy/configs/countdown-cpu.yaml --overlay cpu-kind",
        "scope submit deploy/configs/countdown-cpu.yaml --overlay cpu-kind --run-id first --print",
    )
    parser.set_defaults(command=_submit)


def _submit(options: argparse.Namespace) -> int:
    from services.kubernetes.run_objects import apply, as_yaml, default_run_id, run_objects

    run_id = options.run_id or default_run_id(options.config)
    objects = run_objects(
        options.config, options.manifests / "overlays" / options.overlay / "run", run_id, options.overrides
    )
    if options.only_print:
        say_lines(as_yaml(objects).rstrip("\n"))
        return 0
    namespace = objects.job["metadata"]["namespace"]
    apply(objects, options.context)
    context = options.context or "CONTEXT"
    say(
        f"run {run_id} is submitted. Its pods: kubectl -n {namespace} get pods -l ray.io/originated-from-cr-name="
        f"{run_id}; its state, with a token in SCOPE_TOKEN: scope status --context {context} --run-id {run_id}"
    )
    return 0
