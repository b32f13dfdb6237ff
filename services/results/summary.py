"""The closing summary of a run: what it reached, in lines for a terminal, from its report."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

WIDTH = 80
INDENT = 12
"""column in which the text of an item begins"""
TARGETS_SHOWN = 4


def summary(report: Mapping[str, Any], path: Path) -> list[str]:
    """The lines. report: the document of `report.json`; path: the run directory, as commands should name it."""
    done, of = report["steps"], report["steps_configured"]
    end = "finished" if done == of else "stopped"
    lines = [f"run {report['run_id']} {end} after {done} of {of} learner steps"]
    lines += _held_out(report["evaluation"], report["entropy"])
    lines += _entropy(report["entropy"])
    lines += _work(report)
    lines += _item("results", f"{path}/report.png, report.json, model/")
    return [*lines, "next:", *_commands(report["run_id"], path, stopped=done < of)]


def _held_out(evaluation: Mapping[str, Any], entropy: Mapping[str, Any]) -> Iterator[str]:
    """A line for each k, before and after, and a sentence on the largest k."""
    start, end = evaluation.get("start"), evaluation.get("end")
    if start is None:
        return
    which = f"step {start['step']}" if end is None else f"steps {start['step']} and {end['step']}"
    yield from _item("held-out", f"{start['problems']} problems, {which}, 95% intervals")
    for name in [name for name in start if name.startswith("pass@")]:
        text = _interval(start[name])
        if end is not None and name in end:
            text += f" -> {_interval(end[name])}"
        if name in evaluation.get("difference", {}):
            text += f", {evaluation['difference'][name]['mean']:+z.3f}"
        yield f"  {name:<{INDENT - 2}}{text}"
    if (reason := _reason(evaluation, entropy)) is not None:
        yield from _item("", reason)


def _reason(evaluation: Mapping[str, Any], entropy: Mapping[str, Any]) -> str | None:
    """Why pass@k of the largest k moved, as far as the numbers tell; None where it was not measured twice."""
    moved = {
        int(name.removeprefix("pass@")): change for name, change in evaluation.get("difference", {}).items()
    }
    if not moved or (k := max(moved)) == 1:
        return None
    solved, samples = evaluation["solved"], evaluation["end"]["samples"]
    turns = (
        f"{_problems(solved['lost'])} had a right answer among {samples} samples only before the run, "
        f"{solved['gained']} only after it"
    )
    first, most = _direction(moved[1]) if 1 in moved else 0, _direction(moved[k])
    if most == 0:
        return f"pass@{k} did not change measurably: its interval contains 0; {turns}."
    if most > 0:
        return f"pass@{k} rose: the policy solves problems that it did not solve before; {turns}."
    if first > 0:
        return (
            f"pass@{k} fell while pass@1 rose: {_certainty(entropy)}right answers come more often, to fewer problems; "
            f"{turns}."
        )
    return f"pass@{k} fell, and pass@1 did not rise: the policy solves fewer problems; {turns}."


def _certainty(entropy: Mapping[str, Any]) -> str:
    """A fall of the entropy from the first to the last step, as a clause; empty without one."""
    if not entropy or entropy["end"] >= entropy["start"]:
        return ""
    fall = f"{_three(entropy['start'])} to {_three(entropy['end'])}"
    return f"the policy became more certain (entropy {fall}), so "


def _direction(change: Mapping[str, float]) -> int:
    """1 or -1 where the interval of a difference lies on one side of 0, else 0."""
    return int(change["low95"] > 0) - int(change["high95"] < 0)


def _entropy(entropy: Mapping[str, Any]) -> Iterator[str]:
    if not entropy:
        return
    ends = f"{_three(entropy['start'])} at the start, {_three(entropy['end'])} at the end, nats per token"
    yield from _item("entropy", ends)
    held = entropy.get("held", [])
    if len(held) > TARGETS_SHOWN:
        yield from _item("", f"{len(held) - TARGETS_SHOWN} earlier targets are in report.json")
    for one in held[-TARGETS_SHOWN:]:
        yield from _item("", _held_text(one))


def _held_text(held: Mapping[str, Any]) -> str:
    first, last = held["first_step"] + 1, held["last_step"] + 1
    steps = f"step {first}" if first == last else f"steps {first} to {last}"
    start, end = _three(held["target_from"]), _three(held["target_to"])
    target = f"target {start}" if start == end else f"target {start} to {end}"
    text = (
        f"{target}, {steps}: off by {held['mean_error']:+z.3f} on average, {held['rms_error']:z.3f} RMS; "
        f"within ±10% in {held['near_share']:.0%} of the steps"
    )
    if held["saturated_share"]:
        text += f"; at the limit of the actuators in {held['saturated_share']:.0%}"
    return text


def _work(report: Mapping[str, Any]) -> Iterator[str]:
    if not report["throughput"]:
        return
    tokens, speed = report["tokens"], report["throughput"]
    text = f"{tokens['sampled']:,} sampled, {tokens['trained']:,} trained on"
    yield from _item("tokens", f"{text}; {speed['trained_tokens_per_second']:,.0f} trained on per second")
    learner = report["time_shares"]["learner"]
    words = {"learn": "learning", "wait": "waiting for rollouts", "batch": "making batches"}
    words |= {"publish": "publishing weights", "checkpoint": "waiting for checkpoints"}
    parts = [f"{words[name]} {learner[name]:.0%}" for name in words]
    wall = timedelta(seconds=round(report["wall_seconds"]))
    yield from _item("time", f"{wall} in all; the learner: {', '.join(parts)}")


def _commands(run_id: str, path: Path, *, stopped: bool) -> list[str]:
    run = shlex.quote(str(path))
    if stopped:
        commands = {
            f"scope train --resume {run}": "continue it",
            f"scope view {run}": "its page",
            f"scope eval {run}": "pass@k of the policy so far",
        }
    else:
        commands = {
            f"scope view {run}": "its page",
            f"scope rollouts {run}": "what the policy wrote",
            f"scope export {run} --out {shlex.quote(run_id + '-model')}": "the model with a card",
        }
    width = max(map(len, commands))
    return [f"  {command:<{width}}  # {purpose}" for command, purpose in commands.items()]


def _item(name: str, text: str) -> list[str]:
    head = f"  {name:<{INDENT - 2}}"
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * INDENT, break_long_words=False
    )


def _interval(found: Mapping[str, float]) -> str:
    return f"{_three(found['mean'])} [{_three(found['low95'])}, {_three(found['high95'])}]"


def _problems(count: int) -> str:
    return f"{count} problem" if count == 1 else f"{count} problems"


def _three(value: float) -> str:
    return f"{value:z.3f}"
