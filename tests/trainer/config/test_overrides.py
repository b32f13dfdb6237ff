"""`--set`: a field of text takes its value as it stands, and every other field reads it as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import RunConfig
from trainer.config.fields import describe_fields
from trainer.config.load import default_config, dump_yaml, load_config
from trainer.errors import ScopeError

TEXT_FIELDS = [field.path for field in describe_fields() if field.type in ("text", "text or null")]
FREE_TEXT = ("model.system_prompt", "task.dataset.instruction", "task.dataset.strip_before")
"""fields that take any text; the others have a form of their own, such as that of a path"""

OF_A_FORM = {
    "model.revision",
    "task.verifier.function",
    "task.verifier.url",
    "task.verifier.authorization_variable",
    "learner.ray_resource",
    "generators.ray_resource",
    "redis.url",
}


def value(config: RunConfig, path: str) -> Any:
    found: Any = config
    for name in path.split("."):
        found = getattr(found, name)
    return found


def read_back(config: RunConfig, folder: Path) -> RunConfig:
    """The configuration after it was stored in a run directory."""
    file = folder / "config.yaml"
    file.write_text(dump_yaml(config), encoding="utf-8")
    return load_config(file)


@pytest.mark.parametrize("field", FREE_TEXT)
@pytest.mark.parametrize(
    "text",
    [
        "a #b",
        "Answer: yes",
        "007",
        "1e3",
        "true",
        "[a]",
        "- x",
        '"quoted"',
        "'single'",
        "line 1\nline 2\n",
        "  blanks around  ",
        "",
        "🎯 ½ ١٢ é",
        "a=b=c",
        "# a comment",
        "{a: 1}",
        "*alias",
        "&anchor x",
        "!tag x",
        "| block",
        "> folded",
        "key:",
        "a:\tb",
        "%directive",
        "@at",
        "`code`",
        "--- x",
        "...",
        "~",
        "None",
        "2026-01-01",
        ".nan",
        "\\boxed{}",
        "${HOME} and $1",
        "\t",
        "\x07 bell",
        "a\r\nb",
        "\u2028",
        "[unclosed",
        "a, b",
        "?",
    ],
)
def test_a_field_of_text_takes_the_value_as_it_stands(field: str, text: str, tmp_path: Path) -> None:
    config = default_config([f"{field}={text}"])
    assert value(config, field) == text
    assert value(read_back(config, tmp_path), field) == text


@given(field=st.sampled_from(FREE_TEXT), text=st.text())
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back(field: str, text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if text == "null" and field == "model.system_prompt":
        return
    config = default_config([f"{field}={text}"])
    assert value(config, field) == text
    assert value(read_back(config, tmp_path_factory.getbasetemp()), field) == text


@pytest.mark.parametrize("field", [f.path for f in describe_fields() if f.type == "text or null"])
def test_null_unsets_a_text_that_may_be_unset(field: str) -> None:
    assert value(default_config([f"{field}=null"]), field) is None


def test_null_is_a_text_where_a_text_must_be_set() -> None:
    assert default_config(["wandb.project=null"]).wandb.project == "null"


@pytest.mark.parametrize("field", sorted(set(TEXT_FIELDS) - OF_A_FORM))
def test_no_field_of_text_reads_its_value_as_another_type(field: str) -> None:
    for text in ("7", "true", "1e3"):
        assert value(default_config([f"{field}={text}"]), field) == text


@pytest.mark.parametrize("field", sorted(OF_A_FORM))
def test_a_text_of_another_form_is_refused_as_a_text(field: str) -> None:
    with pytest.raises(ScopeError, match="'1e3 '"):
        default_config([f"{field}=1e3 "])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps= 7 ", 7),
        ("steps=7 # more later", 7),
        ("optimizer.learning_rate=3e-4", 3e-4),
        ("evaluation.ks=[1, 8]", (1, 8)),
        ("evaluation.ks=[1, 8] # two", (1, 8)),
        ("checkpoint.every_seconds=null", None),
        ("learner.gradient_checkpointing=true", True),
        ("task.reasoning_gym.options={max_terms: 3}", {"max_terms": 3}),
        ("task.dataset.keep_fields=[a, 'b c']", ("a", "b c")),
        ("entropy_control.target=auto", "auto"),
        ("entropy_control.target='auto'", "auto"),
        ("entropy_control.kind=none", "none"),
    ],
)
def test_every_other_field_reads_yaml(override: str, expected: object) -> None:
    assert value(default_config([override]), override.partition("=")[0]) == expected


@pytest.mark.parametrize(
    "override", ["steps=seven", "steps='7'", "evaluation.ks=1,4", "loss.clip_low=", "steps=- 7"]
)
def test_what_is_not_of_the_type_is_refused_by_name(override: str) -> None:
    with pytest.raises(ScopeError, match=override.partition("=")[0]):
        default_config([override])
