"""The figures of an evaluation, as pure functions of its results, with 95 % bootstrap intervals over problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.evaluation.results import ProblemResult, Response
from trainer.pass_at_k import Interval, bootstrap_mean, pass_at_k

BOOTSTRAP_SEED = 0


def majority(responses: Sequence[Response]) -> float:
    """Return 1 if the most frequent answer is correct, else 0; the mean over equally frequent answers.

    Responses without an answer do not vote; without any vote the result is 0.
    """
    votes = Counter(response.answer for response in responses if response.answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    credit = []
    for answer, count in votes.items():
        if count == most:
            right = [response.correct for response in responses if response.answer == answer]
            credit.append(sum(right) / len(right))
    return float(np.mean(credit))


def summarize(results: Sequence[ProblemResult], samples: int, ks: Sequence[int]) -> dict[str, Any]:
    """Compute the figures of one task. Raises ValueError without results.

    `avg@n` is the mean share of correct responses and equals `pass@1`. `reward@n` is the mean reward, which counts
    partly correct responses. Responses without a score, which `unscored` counts, are not correct. `maj@n` is omitted
    when the task reads an answer from none of the responses.
    """
    correct = [result.correct for result in results]
    responses = [response for result in results for response in result.responses]
    figures: dict[str, Any] = {"problems": len(results), "samples": samples}
    figures |= {f"pass@{k}": _interval(pass_at_k(samples, correct, k)) for k in ks}
    figures[f"avg@{samples}"] = _interval(np.array(correct) / samples)
    figures[f"reward@{samples}"] = _interval([np.mean([r.reward for r in p.responses]) for p in results])
    if any(response.answer is not None for response in responses):
        figures[f"maj@{samples}"] = _interval([majority(result.responses) for result in results])
    figures["tokens"] = float(np.mean([response.tokens for response in responses]))
    figures["truncated_share"] = float(np.mean([response.finish == "length" for response in responses]))
    figures["unscored"] = sum(response.unscored is not None for response in responses)
    figures["verdicts"] = dict(Counter(response.verdict for response in responses).most_common(20))
    return figures


def _interval(values: Any) -> dict[str, float]:
    found: Interval = bootstrap_mean(np.asarray(values, dtype=np.float64), seed=BOOTSTRAP_SEED)
    return {"mean": found.mean, "low95": found.low, "high95": found.high}
