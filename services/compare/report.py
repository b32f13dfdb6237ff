"""The tables of a comparison, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len


@dataclass(frozen=True)
class Table:
    """A title, column heads and rows of text; the first column is the control."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Format as a GitHub-flavoured Markdown table."""
        lines = [
            f"**{self.title}**",
            "",
            _pipe(self.heads),
            _pipe(["---", *["---:"] * (len(self.heads) - 1)]),
        ]
        return "\n".join([*lines, *map(_pipe, self.rows)])

    def text(self) -> str:
        """Format as aligned text."""
        widths = [max(map(cell_len, column)) for column in zip(self.heads, *self.rows, strict=True)]
        lines = [
            "  ".join(
                cell + " " * (width - cell_len(cell)) if i == 0 else " " * (width - cell_len(cell)) + cell
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (self.heads, *self.rows)
        ]
        return "\n".join([self.title, *lines])


def tables(document: dict[str, Any]) -> list[Table]:
    """Build the tables: entropy against target, pass@k, cost, and pass@k at equal cost where it is known."""
    passes = [_passes(document, k) for k in headline_ks(document["ks"])]
    found = [_holding(document), *passes, _cost(document)]
    for name, words in (("wall_seconds", "wall clock"), ("generated_tokens", "generated tokens")):
        others = [c for label, c in document["controls"].items() if label != document["baseline"]]
        if any(control["at_equal_cost"][name]["pass"] for control in others):
            found.append(_at_cost(document, name, words))
    return found


def notes(document: dict[str, Any]) -> str:
    """Explain the figures in one paragraph."""
    seeds, parallel = document["seeds"], document["parallel"]
    beside = f", with up to {parallel} runs in parallel" if parallel > 1 else ""
    many = (
        f"Intervals are 95 %, from a bootstrap over {len(seeds)} seeds and {document['problems']} problems."
        if len(seeds) > 1
        else f"Intervals are 95 %, over {document['problems']} problems only: one seed has no variance over seeds."
    )
    return (
        f"Seeds {', '.join(map(str, seeds))}; {document['source']}; {document['problems']} held-out problems, "
        f"{document['samples']} samples each. {many} Differences are to {document['baseline']}, paired by seed "
        f"and problem. Wall clock is that of training alone{beside}."
    )


def markdown(document: dict[str, Any], pictures: Sequence[str]) -> str:
    """Return the whole report as Markdown."""
    parts = [f"# {document['title']}", notes(document), *(table.markdown() for table in tables(document))]
    parts += [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in pictures]
    return "\n\n".join([*parts, f"Made by `{document['command']}`."]) + "\n"


def terminal(document: dict[str, Any]) -> str:
    """Return the tables and their explanation as text."""
    return "\n\n".join([*(table.text() for table in tables(document)), notes(document)])


def headline_ks(ks: Sequence[int]) -> list[int]:
    """Return 1 and the largest k up to 16."""
    return sorted({1, max(k for k in ks if k <= 16)})


def _holding(document: dict[str, Any]) -> Table:
    heads = ["control", "start", "mean", "target", "mean error", "RMS error", "saturated", "range"]
    rows = []
    for label, control in document["controls"].items():
        entropy = control["entropy"]
        rows.append(
            [
                label,
                _mean(entropy["start"], "z.3f"),
                _mean(entropy["mean"], "z.3f"),
                _mean(entropy["entropy_target"], "z.3f"),
                _mean(entropy["mean_error"], "+z.3f"),
                _mean(entropy["rms_error"], "z.3f"),
                _mean(entropy["saturated_share"], ".0%"),
                f"{entropy['low']:z.3f}–{entropy['high']:z.3f}",
            ]
        )
    windows = sorted(set(document["window_steps"].values()))
    last = " or ".join(map(str, windows))
    return Table(
        f"Policy entropy over the last {last} steps, nats per token (RMS of 5-step averages)", heads, rows
    )


def _passes(document: dict[str, Any], k: int) -> Table:
    rows = []
    for label, control in document["controls"].items():
        found = control["pass"][str(k)]
        rows.append(
            [
                label,
                format(found["start"]["mean"], "z.3f"),
                interval_text(found["end"], "z.3f"),
                interval_text(found["change"], "+z.3f"),
                interval_text(found.get("difference"), "+z.3f"),
            ]
        )
    heads = ["control", "start", "end", "change", f"difference to {document['baseline']}"]
    return Table(f"Held-out pass@{k}", heads, rows)


def _cost(document: dict[str, Any]) -> Table:
    heads = [
        "control",
        "steps",
        "wall clock s",
        "generated tokens",
        f"tokens to step {document['same_step']}",
    ]
    rows = [
        [
            label,
            str(control["steps"]),
            _mean(control["cost"]["wall_seconds"], ",.0f"),
            _mean(control["cost"]["generated_tokens"], ",.0f"),
            _mean(control["cost"]["generated_tokens_to_same_step"], ",.0f"),
        ]
        for label, control in document["controls"].items()
    ]
    return Table("Cost of training, mean over seeds", heads, rows)


def _at_cost(document: dict[str, Any], name: str, words: str) -> Table:
    ks = [str(k) for k in headline_ks(document["ks"])]
    heads = ["control"]
    for k in ks:
        heads += [f"pass@{k}", "difference"]
    rows = []
    for label, control in document["controls"].items():
        found = control["at_equal_cost"][name]["pass"]
        row = [label]
        for k in ks:
            at = found.get(k, {})
            row += [interval_text(at.get("value"), "z.3f"), interval_text(at.get("difference"), "+z.3f")]
        rows.append(row)
    unit = "s" if name == "wall_seconds" else "tokens"
    return Table(f"The same at equal {words}: {document['budgets'][name]:,.0f} {unit}", heads, rows)


def _mean(spread: dict[str, float] | None, form: str) -> str:
    return "–" if spread is None else format(spread["mean"], form)


def interval_text(interval: dict[str, float] | None, form: str) -> str:
    """Format a mean and its 95 % interval."""
    if interval is None:
        return "–"
    low, high = format(interval["low95"], form), format(interval["high95"], form)
    return f"{format(interval['mean'], form)} [{low}, {high}]"


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
