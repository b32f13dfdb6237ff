"""The findings of `scope doctor` and their report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from services.host.terminal import plain
from trainer.errors import ScopeError


@dataclass(frozen=True)
class Finding:
    """The result of one check. `error`: the run would fail; `warning`: it may."""

    level: Literal["ok", "warning", "error"]
    field: str
    value: str
    text: str
    """what was found and, unless `ok`, what to do"""


def found(field: str, value: object, run: Callable[[], Sequence[str]], passed: str) -> list[Finding]:
    """The findings of a check. run: returns warnings; raises ScopeError if the run would fail."""
    try:
        warnings = run()
    except ScopeError as error:
        return [Finding("error", field, _shown(value), _line(str(error)))]
    if warnings:
        return [Finding("warning", field, _shown(value), _line(text)) for text in warnings]
    return [Finding("ok", field, _shown(value), passed)]


def report(findings: Sequence[Finding], sizes: dict[str, int | float], *, as_json: bool) -> str:
    """The report as text, one line for each finding, or as one JSON document."""
    if as_json:
        document = {
            "ok": not failed(findings),
            "findings": [asdict(finding) for finding in findings],
            "estimate": sizes,
        }
        return json.dumps(document, indent=2)
    lines = [plain(f"{f.level:8}{f.field}={f.value}: {f.text}") for f in findings]
    if sizes:
        width = max(map(len, sizes))
        lines += ["", "estimate"]
        lines += [f"  {name:{width}}  {_amount(name, size)}" for name, size in sizes.items()]
    return "\n".join(lines)


def failed(findings: Sequence[Finding]) -> bool:
    """Whether the run would fail."""
    return any(finding.level == "error" for finding in findings)


def gib(size: float) -> str:
    """Bytes as text, in GiB or MiB."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def _amount(name: str, size: float) -> str:
    return gib(size) if name.endswith("_bytes") else f"{size:,.0f}"


def _shown(value: object) -> str:
    return "unset" if value is None else str(value)


def _line(text: str) -> str:
    return " ".join(text.split())
