"""Presets: public data sets of mathematical problems on the Hugging Face hub, with their columns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A data set, its split, and the columns of problem and answer; dots for parts of a column."""

    path: str
    split: str
    prompt: str
    answer: str
    """column of text or numbers, or of lists of them, all of which a correct response must have"""
    subset: str | None = None
    answer_after: str | None = None
    """the answer is the text after the last occurrence of this"""
    before: str = ""
    """text before each problem that is not part of it, such as an instruction"""
    after: str = ""
    """text after each problem that is not part of it"""


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
