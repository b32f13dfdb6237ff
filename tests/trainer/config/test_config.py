"""Configuration: accepted and refused input, and error messages that say what to do."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from trainer.config import RunConfig
from trainer.config.fields import describe_fields, nearest_field
from trainer.config.load import config_hash, dump_yaml, load_config, validate_config
from trainer.errors import ScopeError

FIELDS = describe_fields()
NUMBERS = [f.path for f in FIELDS if f.type.startswith("a finite number") and f.default is not None]
SAME_FILE = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return path

    return write


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ScopeError) as caught:
        load_config(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n", "{}"])
def test_an_empty_file_is_the_default_run(write, text):
    assert load_config(write(text)) == RunConfig()


def test_file_and_overrides_are_merged_and_the_last_override_wins(write):
    path = write("steps: 7\noptimizer:\n  learning_rate: 3e-4\n  beta1: 0.5\n")
    config = load_config(path, ["optimizer.learning_rate=1e-5", "evaluation.ks=[1, 2]", "steps=8", "steps=9"])
    assert (config.steps, config.optimizer.learning_rate, config.optimizer.beta1) == (9, 1e-5, 0.5)
    assert config.evaluation.ks == (1, 2)


def test_scalars_follow_the_core_schema_and_not_yaml_1_1(write):
    config = load_config(write("task: {name: on}\nmodel: {path: 12:30}\nruns_dir: 2026-01-01\n"))
    assert (config.task.name, config.model.path, config.runs_dir) == ("on", "12:30", "2026-01-01")
    assert load_config(write("model: {path: ~}")).model.path is None
    assert load_config(write("seed: 010")).seed == 10


@given(field=st.sampled_from(FIELDS))
@SAME_FILE
def test_every_field_can_be_overridden_by_its_name(tmp_path, field):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    if isinstance(default, str):
        text = default
    else:
        text = yaml.safe_dump(default, default_flow_style=True).removesuffix("...\n").strip()
    assert load_config(path, [f"{field.path}={text}"]) == RunConfig()


@given(
    prompt=st.text(),
    name=st.sampled_from(["1e5", "null", "~", "true", "0x1f", ".inf", "-3", "yes", " a: b #", "\n", "\x85"]),
    seed=st.integers(0, 2**31 - 1),
    rate=st.floats(0, 1),
    ks=st.lists(st.integers(1, 32), min_size=1),
)
@SAME_FILE
def test_dumped_yaml_reads_back_to_an_equal_tree(tmp_path, prompt, name, seed, rate, ks):
    config = validate_config(
        {
            "seed": seed,
            "wandb": {"project": name},
            "model": {"system_prompt": prompt},
            "optimizer": {"learning_rate": rate},
            "evaluation": {"ks": ks},
        }
    )
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_yaml(config), encoding="utf-8")
    again = load_config(path)
    assert again == config
    assert config_hash(again) == config_hash(config)


def test_the_hash_depends_on_every_value_and_not_on_order(write):
    one = load_config(write("steps: 3\nseed: 5\n"))
    assert config_hash(one) == config_hash(load_config(write("seed: 5\nsteps: 3\n")))
    assert config_hash(one) != config_hash(load_config(write("seed: 5\nsteps: 4\n")))


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("optimizer.learning_rte", "optimizer.learning_rate"),
        ("entropy_contol.target", "entropy_control.target"),
        ("entropy_control.split_range.tmax", "entropy_control.split_range.t_max"),
        ("learning_rate", "optimizer.learning_rate"),
        ("max_staleness", "pipeline.max_staleness"),
        ("optimiser", "optimizer"),
        ("Steps", "steps"),
        ("control_plane.prot", "control_plane.port"),
    ],
)
def test_the_nearest_name_is_the_one_meant(typo, meant):
    assert nearest_field(typo) == meant


@given(
    name=st.from_regex(r"[a-z_]{1,12}(\.[a-z_]{1,12}){0,2}", fullmatch=True),
)
@SAME_FILE
def test_an_unknown_name_is_refused_with_a_valid_one(tmp_path, name):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    valid = {field.path for field in FIELDS}
    assume(not any(leaf.startswith(name) or name.startswith(f"{leaf}.") for leaf in valid))
    message = refusal(path, f"{name}=1")
    suggestion = message.rsplit("The nearest valid name is ", 1)[-1].removesuffix(".")
    assert "is not a field of the configuration" in message
    assert any(leaf == suggestion or leaf.startswith(f"{suggestion}.") for leaf in valid)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "true", "'1'", "[1]", "~"])
def test_every_number_refuses_what_is_not_a_finite_number(write, value):
    path = write("")
    for field in NUMBERS:
        message = refusal(path, f"{field}={value}")
        assert message.startswith(f"{field} = ")
        assert "must be a finite number" in message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps=0", ["steps = 0", "at least 1"]),
        ("steps=1.5", ["steps = 1.5", "a whole number"]),
        ("steps=true", ["steps = True", "a whole number"]),
        ("loss.clip_low=1", ["loss.clip_low = 1", "above 0 and below 1"]),
        ("control_plane.port=80", ["control_plane.port = 80", "at least 1,024 and at most 65,535"]),
        ("learner.zero_stage=4", ["learner.zero_stage = 4", "one of 1, 2, 3"]),
        (
            "entropy_control.kind=bonus",
            ["entropy_control.kind = 'bonus'", "'none', 'paper', 'aepo_v1', 'split_range'"],
        ),
        ("entropy_control.target=9", ["target=9.0", "[0.01, 5.0] nats per token"]),
        ("entropy_control.target=aut", ["entropy_control.target = 'aut'", "a finite number or 'auto'"]),
        ("entropy_control.auto_fraction=0", ["entropy_control.auto_fraction = 0", "above 0 and at most 2"]),
        ("entropy_control.target_min=6", ["target_min=6.0", "below target_max=5.0"]),
        (
            "entropy_control.schedule.kind=ramp",
            ["schedule.kind = 'ramp'", "'hold', 'step', 'linear', 'cosine'"],
        ),
        (
            "entropy_control.schedule.points=[[1.5, 0.3]]",
            ["schedule.points.0.0 = 1.5", "[a whole number at least 0"],
        ),
        ("rollout.top_p=0.9", ["top_p=0.9", "only 1.0"]),
        ("evaluation.ks=[0]", ["evaluation.ks.0 = 0", "a whole number at least 1"]),
        ("evaluation.ks=[64]", ["ks=[64]", "samples=32"]),
        ("rollout=3", ["rollout = 3", "a block of fields"]),
        ("redis.url=http://x", ["url='http://x'", "redis://"]),
        ("redis.url=redis://me:secret@x", ["SCOPE_REDIS_PASSWORD"]),
        ("generators.adaptive=0", ["generators.adaptive=0", "entropy_control.kind=none"]),
        ("pipeline.lease_seconds=2", ["pipeline.lease_seconds = 2", "at least 3 and at most 3,600"]),
        ("pipeline.queue_capacity=10", ["pipeline.queue_capacity=10", "192"]),
    ],
)
def test_a_refused_value_is_named_with_what_is_allowed(write, override, said):
    message = refusal(write(""), override)
    assert all(part in message for part in said), message
    assert "\n" not in message
    assert "secret" not in message


def test_each_problem_has_its_own_paragraph(write):
    message = refusal(write("steps: 0\noptimizer: {learning_rate: 2}\nstps: 3\n"))
    assert len(message.split("\n\n")) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1\n", "mapping of blocks"),
        ("just text", "mapping of blocks"),
        ("a: [", "not valid YAML: line 1, column 5"),
        ("seed: 1\nmodel:\n  system_prompt: Answer: yes\n", "line 3, column 24"),
        ("seed: 1\nmodel:\n  system_prompt: Answer: yes\n", "put text that contains ': ' into quotes"),
        ("seed: 1\nmodel: {system_prompt: 'it's}\n", "line 2, column 28"),
        ('seed: 1\nruns_dir: "a\\qb"\n', "line 2, column 14"),
        ("seed: 1\nruns_dir: `x`\n", "line 2, column 11"),
        ("seed: 1\n\truns_dir: x\n", "line 2, column 1"),
        ("seed: 1\nruns_dir: 'a\x07b'\n", "line 2, column 13: the character '\\x07' is not allowed"),
        ("steps: 1\nsteps: 2\n", "'steps' occurs twice"),
        ("optimizer: {beta1: 0.1, beta1: 0.2}", "'beta1' occurs twice"),
        ("1: 2", "1 is not a name"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: &a [*a]", "refers to itself"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("a: !!timestamp 2026-01-01", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("a: !!int x", "not valid YAML"),
        (f"a: {'[' * 5000}", "not valid YAML"),
        ("\ud800", "cannot be read as text"),
        ("optimizer.learning_rate: 1", "written with dots"),
        ("rollout:\n", "a block of fields"),
    ],
)
def test_a_file_that_is_no_configuration_is_explained(write, text, said):
    assert said in refusal(write(text))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert "does not exist" in refusal(tmp_path / "absent.yaml")
    assert "cannot be read as text" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps", "a.b=value"),
        ("=3", "a.b=value"),
        ("optimizer..beta1=3", "a.b=value"),
        ("rollout={top_k: 1}", "one by one"),
        ("seed.low=3", "a field inside seed"),
        ("evaluation.ks=[", "not valid YAML: line 1, column 2"),
    ],
)
def test_a_malformed_override_is_explained(write, override, said):
    message = refusal(write("seed: 3"), override)
    assert said in message
    assert override in message


def test_the_tree_is_immutable():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().optimizer.learning_rate = 0.5  # type: ignore[misc]


def test_reading_a_configuration_imports_no_torch():
    code = "import sys, trainer.config.load, services.control_plane.client; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
