"""A supervised start on sums in words: SmolLM2-135M learns to write a derivation, and is right some of the time.

    .venv/bin/python benchmarks/entropy/language_model_start.py

Imported by `language_model.py`, which needs the start. The model is trained briefly on derivations with random wording
of problems of another seed, so that it keeps a choice of words and still makes mistakes. The result is a model
directory under runs/; it is made once.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY)]

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from benchmarks.real_model import MODEL, imported  # noqa: E402
from trainer.config.load import load_config  # noqa: E402
from trainer.files import new_model_directory  # noqa: E402
from trainer.policy.evaluate import measure  # noqa: E402
from trainer.prompts.codec import PromptCodec  # noqa: E402
from trainer.tasks.reasoning_gym import ReasoningGym  # noqa: E402
from trainer.tasks.verification import Verification  # noqa: E402

CONFIG = Path(__file__).with_name("language_model.yaml")
START = REPOSITORY / "runs" / "smollm2-135m-sums"
BATCH, RATE, WARM_UP = 16, 5e-5, 10
"""derivations per optimizer step, learning rate, and steps until it is reached"""
EVERY, ENOUGH, MOST_STEPS = 20, 0.12, 300
"""steps between measurements, the success at which the start is done, and the steps after which it has failed"""
SEED = 5
SAMPLES = 2
"""responses to each held-out problem, in a measurement"""

OPENINGS = ("First, ", "To begin, ", "Start with ", "")
LINKS = ("Then ", "Next, ", "After that, ", "Now ", "")
WORDS = {
    "+": (
        "{a} + {b} = {c}.",
        "{a} plus {b} is {c}.",
        "adding {b} to {a} gives {c}.",
        "{a} and {b} make {c}.",
    ),
    "-": (
        "{a} - {b} = {c}.",
        "{a} minus {b} is {c}.",
        "taking {b} from {a} gives {c}.",
        "{a} less {b} makes {c}.",
    ),
}
ENDINGS = ("<answer>{c}</answer>", "So it is <answer>{c}</answer>", "The result: <answer>{c}</answer>")


def derivation(question: str, choose: random.Random) -> str:
    """A correct derivation of a sum such as `47 + 28 - 13 =`, term by term, in random words."""
    found = re.search(r"(\d+(?: [+-] \d+)+) =", question)
    if found is None:
        raise ValueError(f"{question!r} has no sum")
    total, *rest = found[1].split(" ")
    sentences = []
    for place, (sign, term) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
        value = int(total) + int(term) * (1 if sign == "+" else -1)
        link = choose.choice(LINKS if place else OPENINGS)
        words = choose.choice(WORDS[sign]).format(a=total, b=term, c=value)
        sentences.append(link + words if link else words[0].upper() + words[1:])
        total = str(value)
    return " ".join([*sentences, choose.choice(ENDINGS).format(c=total)])


def make_start() -> Path:
    """Train the start unless that has been done; returns its model directory.

    Raises SystemExit if the model is not right often enough after `MOST_STEPS`.
    """
    imported()
    if START.exists():
        return START
    config, started = load_config(CONFIG), time.process_time()
    codec = PromptCodec.load(MODEL, config)
    task = ReasoningGym(config.task)
    elsewhere = ReasoningGym(config.task.model_copy(update={"seed": config.task.seed + 1}))
    elsewhere.leave_out(task.heldout_ids)
    # Any: transformers does not type its models.
    model: Any = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    choose = random.Random(SEED)
    for step in range(MOST_STEPS):
        problems = [elsewhere.train_problem(step * BATCH + i) for i in range(BATCH)]
        prompts = [codec.encode(problem) for problem in problems]
        texts = [derivation(problem.prompt, choose) for problem in problems]
        answers = [[*codec.tokenizer(text)["input_ids"], codec.tokenizer.eos_token_id] for text in texts]
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / WARM_UP)
        with torch.autocast("cpu", torch.bfloat16):
            loss = answer_loss(model, prompts, answers)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % EVERY:
            continue
        found = measure(
            model,
            codec,
            Verification(task, config.task),
            [task.heldout_problem(i) for i in range(task.heldout_size)],
            samples=SAMPLES,
            max_new_tokens=config.rollout.max_new_tokens,
            seed=SEED,
        )
        record = {
            "steps": step + 1,
            "loss": loss.item(),
            "entropy": found.entropy,
            "pass_at_1": found.pass_at_1,
            "processor_seconds": time.process_time() - started,
        }
        print(record, flush=True)
        if found.pass_at_1 >= ENOUGH:
            with new_model_directory(START, replace=False) as writing:
                model.save_pretrained(writing)
                codec.tokenizer.save_pretrained(writing)
                (writing / "start.json").write_text(json.dumps(record, indent=1) + "\n")
            return START
    raise SystemExit(f"the model is right less often than {ENOUGH:.0%} after {MOST_STEPS} supervised steps")


def answer_loss(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens, nats."""
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    places = torch.arange(longest)
    begins = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    ends = torch.tensor([len(row) for row in rows])[:, None]
    # Padding follows every token that counts, so causal attention needs no mask.
    counted = ((places >= begins) & (places < ends))[:, 1:]
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[counted]).float(), ids[:, 1:][counted])


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_start()
