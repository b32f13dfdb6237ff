"""Problems from a data set with the configured verifier, by default for mathematics."""

from __future__ import annotations

from collections.abc import Sequence, Set

from trainer.config.task import SingleTaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Message, Problem, Verdict
from trainer.tasks.datasets.rows import Row, read_rows
from trainer.tasks.datasets.verifiers import make_verifier
from trainer.tasks.split import Split, seeded_rank


class _Verified(Split):
    """Problems from rows, and the configured verifier."""

    name = "dataset"

    def __init__(
        self, train: Sequence[Problem], heldout: Sequence[Problem], config: SingleTaskConfig
    ) -> None:
        super().__init__(train, heldout)
        self._verifier = make_verifier(config.verifier, config.folder)

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """The verdict of the verifier."""
        return self._verifier.verify(problem, response_text)

    def final_answer(self, problem: Problem, response_text: str) -> str | None:
        """The answer according to the verifier."""
        return self._verifier.final_answer(response_text)


class Dataset(_Verified):
    """The task. The seed orders the training problems; held-out problems are never among them."""

    def __init__(self, config: SingleTaskConfig) -> None:
        """Raises ScopeError if the data cannot be read or leaves no training problem."""
        source = config.dataset
        if source.train is None:
            raise ScopeError("task.name='dataset' needs task.dataset.train")
        self._where = f"task.dataset.train={source.train!r}"
        rows, notes = read_rows(source.train, source, field="task.dataset.train", split=source.split)
        rows.sort(key=lambda row: seeded_rank(config.seed, row.identity))
        self._different = len(rows)
        if source.heldout is None:
            heldout, rows = rows[: config.heldout], rows[config.heldout :]
        else:
            heldout, more = read_rows(
                source.heldout, source, field="task.dataset.heldout", split=source.heldout_split
            )
            notes += more
        self._notes = list(notes)
        self._questions = {row.identity: row.question for row in (*rows, *heldout)}
        super().__init__(
            _problems(rows, source.instruction, source.train),
            _problems(heldout, source.instruction, source.heldout or source.train),
            config,
        )
        self._heldout_ids = frozenset(row.identity for row in heldout) | {row.question for row in heldout}
        self._without(self._heldout_ids, f"task.dataset.heldout={source.heldout!r} holds out")

    @property
    def notes(self) -> Sequence[str]:
        """Notes on skipped rows and problems."""
        return tuple(self._notes)

    @property
    def heldout_ids(self) -> Set[str]:
        """Ids of the held-out problems (`problem_identity`), with and without system messages."""
        return self._heldout_ids

    def leave_out(self, ids: Set[str]) -> None:
        """Skip these training problems. Raises ScopeError if none is left."""
        self._without(ids, "another part of the mixture holds out")

    def _without(self, ids: Set[str], who: str) -> None:
        left = [
            problem
            for problem in self._train
            if problem.id not in ids and self._questions[problem.id] not in ids
        ]
        count = len(self._train) - len(left)
        if count:
            self._notes.append(f"{self._where}: {count:,} problems that {who} are not trained on")
        if not left:
            raise ScopeError(
                f"{self._where} has {self._different} distinct problems, and none is left for training: use "
                f"task.heldout below {self._different}, or another task.dataset.heldout."
            )
        self._train = left


class Benchmark(_Verified):
    """Every problem of a data set, in its order, as a held-out problem; without training problems."""

    def __init__(self, source: str, config: SingleTaskConfig, field: str) -> None:
        """source: as `task.dataset.heldout`. Raises ScopeError, which names `field`, if it cannot be read."""
        rows, self.notes = read_rows(source, config.dataset, field=field, split=config.dataset.heldout_split)
        super().__init__([], _problems(rows, config.dataset.instruction, source), config)


def _problems(rows: Sequence[Row], instruction: str, source: str) -> list[Problem]:
    problems = []
    for row in rows:
        prompt = row.text + instruction
        data = {"text": row.text, "answer": row.answer, "extra": row.extra, "source": row.source or source}
        messages = (*row.earlier, Message("user", prompt)) if row.earlier else ()
        problems.append(Problem(row.identity, prompt, data, messages))
    return problems
