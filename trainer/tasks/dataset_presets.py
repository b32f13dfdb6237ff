"""Public data sets of mathematical problems by short names: where they are and which columns hold what.

All are on the Hugging Face hub. Names of columns are those of the published versions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A data set, its split, and the columns of problem and answer; a dot reaches into a column."""

    path: str
    split: str
    prompt: str
    answer: str
    subset: str | None = None
    answer_after: str | None = None
    """the answer is what follows the last one of these in its column"""


PRESETS = {
    "dapo-math-17k": Source(
        "BytedTsinghua-SIA/DAPO-Math-17k", "train", "prompt.0.content", "reward_model.ground_truth"
    ),
    "gsm8k": Source("openai/gsm8k", "train", "question", "answer", subset="main", answer_after="####"),
    "gsm8k-test": Source("openai/gsm8k", "test", "question", "answer", subset="main", answer_after="####"),
    "math-500": Source("HuggingFaceH4/MATH-500", "test", "problem", "answer"),
    "aime24": Source("HuggingFaceH4/aime_2024", "train", "problem", "answer"),
    "aime25": Source("math-ai/aime25", "test", "problem", "answer"),
    "amc23": Source("math-ai/amc23", "test", "question", "answer"),
    "minerva": Source("math-ai/minervamath", "test", "question", "answer"),
    "olympiadbench": Source(
        "Hothan/OlympiadBench", "train", "question", "final_answer.0", subset="OE_TO_maths_en_COMP"
    ),
}
