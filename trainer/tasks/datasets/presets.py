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
    """a column of text or numbers, or of lists of them, of which a right response has all"""
    subset: str | None = None
    answer_after: str | None = None
    """the answer is what follows the last one of these in its column"""
    before: str = ""
    """what stands before each problem and is no part of it, such as an instruction"""
    after: str = ""
    """the same, behind it"""


PRESETS = {
    "dapo-math-17k": Source(
        "BytedTsinghua-SIA/DAPO-Math-17k",
        "train",
        "prompt.0.content",
        "reward_model.ground_truth",
        before="Solve the following math problem step by step. The last line of your response should be of the form "
        "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n",
        after='\n\nRemember to put your answer on its own line after "Answer:".',
    ),
    "gsm8k": Source("openai/gsm8k", "train", "question", "answer", subset="main", answer_after="####"),
    "gsm8k-test": Source("openai/gsm8k", "test", "question", "answer", subset="main", answer_after="####"),
    "math-500": Source("HuggingFaceH4/MATH-500", "test", "problem", "answer"),
    "aime24": Source("HuggingFaceH4/aime_2024", "train", "problem", "answer"),
    "aime25": Source("math-ai/aime25", "test", "problem", "answer"),
    "amc23": Source("math-ai/amc23", "test", "question", "answer"),
    "minerva": Source("math-ai/minervamath", "test", "question", "answer"),
    "olympiadbench": Source(
        "Hothan/OlympiadBench", "train", "question", "final_answer", subset="OE_TO_maths_en_COMP"
    ),
}
