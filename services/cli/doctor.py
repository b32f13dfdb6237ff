"""`scope doctor`: check a configuration, and estimate what its run needs."""

from __future__ import annotations

import argparse

from services.cli.output import say_lines
from services.cli.parser import add_examples, path_argument
from trainer.errors import ScopeError

DEVICE_NAMES = ("a100", "h100", "h200")


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope doctor`."""
    parser.add_argument("config", type=path_argument, help="YAML file")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="A.B=C", help="override a field"
    )
    parser.add_argument(
        "--device", choices=DEVICE_NAMES, help="GPU to estimate for; this machine need not have one"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_examples(
        parser,
        "scope doctor deploy/configs/countdown-cpu.yaml",
        "scope doctor deploy/configs/countdown-cpu.yaml --set learner.workers=2 --device h100",
        "scope doctor deploy/configs/countdown-cpu.yaml --json",
    )
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from services.checks.doctor import estimate, examine, fits_device
    from services.checks.findings import Finding, failed, report
    from services.checks.sizing import DEVICES
    from trainer.config.load import load_config

    try:
        config = load_config(options.config, options.overrides)
    except ScopeError as error:
        problems = [" ".join(problem.split()) for problem in str(error).split("\n\n")]
        findings = [Finding("error", "configuration", str(options.config), text) for text in problems]
        say_lines(report(findings, {}, as_json=options.json))
        return 1
    findings, shape = examine(config)
    sizes: dict[str, int | float] = {}
    if shape is not None:
        device = DEVICES[options.device] if options.device else None
        sizes = estimate(shape, config, device)
        findings += fits_device(shape, config, device) if device else []
    say_lines(report(findings, sizes, as_json=options.json))
    return 1 if failed(findings) else 0
