"""Writes docs/configuration.md, the table of every field of the configuration tree.

.venv/bin/python docs/generate_configuration.py
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

from trainer import config
from trainer.config.fields import FieldDescription, describe_fields

PAGE = Path(__file__).with_name("configuration.md")
COLUMNS = "| field | type and range | default | meaning |\n|---|---|---|---|"

INTRODUCTION = """\
# Configuration

<!-- Written by docs/generate_configuration.py from trainer/config/; change it there and run the script again. -->

A run is described by one YAML file; `deploy/configs/countdown-cpu.yaml` is the quickstart's, and
`deploy/configs/countdown-cot-cpu.yaml` that of the task with a chain of thought. Blocks are mappings, and a field
that the file leaves out has the default given here. `scope train` takes `--set a.b=c`, any number of times, to
override a field; later ones win. The value is read as YAML, so `--set evaluation.ks=[1,8]` is a list.

Types are strict: `3` is not text and `"3"` is not a number. An unknown field, a wrong type or a value outside its
range is refused before anything starts, with the field, the value and what is allowed. Some fields also depend on
each other, and the message then names both. The resolved tree is written to `config.yaml` in the run directory.

The tree is immutable and has no other source: no environment variable changes a field. Secrets are the exception to
the file: `SCOPE_REDIS_PASSWORD` holds the password of `redis.url`, `SCOPE_TOKEN` a bearer token, and the variable that
`task.verifier.authorization_variable` names what a verifier of your own is sent as authorization.
"""


def page() -> str:
    """The whole page."""
    blocks = [
        _block(name, list(fields))
        for name, fields in groupby(describe_fields(), key=lambda field: field.path.rpartition(".")[0])
    ]
    return "\n".join([INTRODUCTION, *blocks])


def _block(name: str, fields: list[FieldDescription]) -> str:
    rows = "\n".join(_row(field) for field in fields)
    heading = f"## `{name}`" if name else "## The run"
    return f"{heading}\n\n{_purpose(name)}\n\n{COLUMNS}\n{rows}\n"


def _purpose(name: str) -> str:
    """The docstring of the block's class, as one paragraph."""
    model: type[config.Block] = config.RunConfig
    for part in filter(None, name.split(".")):
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, config.Block)):
            raise TypeError(f"{name} is not a block of the configuration")
        model = annotation
    return " ".join((model.__doc__ or "").split())


def _row(field: FieldDescription) -> str:
    shown = field.default if isinstance(field.default, str) else json.dumps(field.default)
    cells = (
        f"`{field.path}`",
        f"{field.type} {field.allowed}".strip(),
        f"`{shown}`",
        field.description,
    )
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page())
