"""Conversations, end tokens, replies and what is unusual about a tokenizer or its chat template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support.chat_models import KINDS, Kind, MakeCodec, write_chat_model
from trainer.config.load import default_config
from trainer.errors import ScopeError
from trainer.policy.sampler import sample
from trainer.prompts.codec import PromptCodec, TooLongError
from trainer.prompts.end_tokens import keep_end_tokens, named_ends
from trainer.prompts.surprises import surprises
from trainer.tasks import Message, Problem

PROBLEM = Problem("p", "question", {})
SYSTEM = (Message("system", "rules"), Message("user", "question"))


def names(codec: PromptCodec) -> set[str]:
    return set(codec.tokenizer.convert_ids_to_tokens(list(codec.end_tokens)))


def text(codec: PromptCodec, problem: Problem) -> str:
    return codec.tokenizer.decode(codec.encode(problem))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("chatml", "<|im_start|>user\nquestion<|im_end|>\n<|im_start|>assistant\n"),
        ("gemma", "<bos><start_of_turn>user\nquestion<end_of_turn>\n<start_of_turn>model\n"),
        ("appends_eos", "<s>question"),
        ("no_pad", "<|im_start|>user\nquestion<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_a_prompt_is_one_user_message(codec_of: MakeCodec, kind: Kind, expected: str) -> None:
    assert text(codec_of(kind), PROBLEM) == expected


def test_a_conversation_is_encoded_as_it_stands(codec_of: MakeCodec) -> None:
    messages = (*SYSTEM, Message("assistant", "answer"), Message("tool", "7"))
    assert text(codec_of("chatml"), Problem("p", "7", {}, messages)) == (
        "<|im_start|>system\nrules<|im_end|>\n<|im_start|>user\nquestion<|im_end|>\n"
        "<|im_start|>assistant\nanswer<|im_end|>\n<|im_start|>tool\n7<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_problem_s_own_system_message_takes_the_place_of_the_configured_one(codec_of: MakeCodec) -> None:
    codec = codec_of("chatml", "model.system_prompt=be brief")
    assert text(codec, PROBLEM).startswith("<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n")
    own = text(codec, Problem("p", "question", {}, SYSTEM))
    assert own.startswith("<|im_start|>system\nrules<|im_end|>\n<|im_start|>user\n")
    assert "be brief" not in own


def test_the_system_message_can_begin_the_user_s(codec_of: MakeCodec) -> None:
    codec = codec_of("gemma", "model.system_prompt=be brief", "model.system_role=user")
    assert "<start_of_turn>user\nbe brief\n\nquestion<end_of_turn>" in text(codec, PROBLEM)
    assert "<start_of_turn>user\nrules\n\nquestion<end_of_turn>" in text(
        codec, Problem("p", "question", {}, SYSTEM)
    )


@pytest.mark.parametrize(
    ("kind", "messages", "words"),
    [
        ("gemma", SYSTEM, "System role not supported: set model.system_role=user"),
        ("gemma", (*SYSTEM[1:], Message("user", "more")), "a conversation of user, user: .*must alternate"),
        ("drops_system", SYSTEM, "leaves out or changes the text of a system message: set model.system_role"),
        ("rewrites_history", (*SYSTEM[1:], Message("assistant", "a"), *SYSTEM[1:]), "text of a user message"),
        ("needs_tools", (), "it may need tools or other variables"),
        ("appends_eos", SYSTEM, r"its conversation \(system, user\) needs a chat template"),
        ("appends_eos", (*SYSTEM[1:], *SYSTEM[1:]), r"its conversation \(user, user\) needs a chat template"),
        ("chatml", (*SYSTEM, Message("assistant", "a")), "its last message is of role 'assistant'"),
    ],
)
def test_a_conversation_that_the_model_cannot_have_is_named(
    codec_of: MakeCodec, kind: Kind, messages: tuple[Message, ...], words: str
) -> None:
    problem, codec = Problem("row-7", "question", {}, messages), codec_of(kind)
    assert isinstance(codec.unusable(problem), ScopeError)
    with pytest.raises(ScopeError, match=f"problem 'row-7' cannot be a prompt: .*{words}"):
        codec.encode(problem)


def test_a_configured_system_prompt_without_a_template_is_refused(codec_of: MakeCodec) -> None:
    for codec in (
        codec_of("appends_eos", "model.system_prompt=be brief"),
        codec_of("chatml", "model.system_prompt=be brief", "model.chat=off"),
    ):
        with pytest.raises(ScopeError, match=r"needs a chat template.*model\.system_prompt"):
            codec.encode(PROBLEM)


def test_chat_follows_the_configuration(codec_of: MakeCodec) -> None:
    assert text(codec_of("chatml", "model.chat=off"), PROBLEM) == "question"
    with pytest.raises(ScopeError, match="has no chat template"):
        codec_of("appends_eos", "model.chat=on")


def test_a_prompt_without_room_for_a_response_is_too_long_by_its_tokens(codec_of: MakeCodec) -> None:
    codec = codec_of("chatml")
    around = len(codec.encode(PROBLEM)) - len("question")
    assert len(codec.encode(Problem("fits", "1" * (400 - around), {}))) == 400
    assert isinstance(codec.unusable(Problem("long", "1" * (401 - around), {})), TooLongError)
    with pytest.raises(ScopeError, match=r"problem 'long' .*401 tokens.*leaves 400: raise model\.max_length"):
        codec.encode(Problem("long", "1" * (401 - around), {}))


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("chatml", (), {"<|im_end|>"}),
        ("chatml_base", (), {"<|im_end|>", "<|endoftext|>"}),
        ("chatml_base", ("model.chat=off",), {"<|endoftext|>"}),
        ("gemma", (), {"<eos>", "<end_of_turn>"}),
        ("llama", (), {"</s>", "<|eot_id|>"}),
        ("appends_eos", (), {"</s>"}),
        ("ends_in_eos", (), {"</s>"}),
        ("rewrites_history", (), {"<|im_end|>"}),
    ],
)
def test_a_response_ends_at_eos_and_at_the_template_s_end_of_a_turn(
    codec_of: MakeCodec, kind: Kind, settings: tuple[str, ...], expected: set[str]
) -> None:
    assert names(codec_of(kind, *settings)) == expected


def test_the_model_s_files_name_end_tokens_too_unless_they_are_ordinary(tmp_path: Path) -> None:
    write_chat_model(tmp_path, "chatml_base")
    config = default_config(["model.chat=off", "model.max_length=400"])
    codec = PromptCodec.load(tmp_path, config)
    assert names(codec) == {"<|im_end|>", "<|endoftext|>"}
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": [2, codec.tokenizer.convert_tokens_to_ids("<think>")]}))
    codec = PromptCodec.load(tmp_path, config)
    assert names(codec) == {"<think>", "<|endoftext|>"}
    assert codec.ordinary_ends == (2,)
    assert "eos_token_id 2 of the model's configuration is an ordinary token" in surprises(codec, PROBLEM)[0]


def test_an_exported_model_keeps_its_end_tokens(tmp_path: Path) -> None:
    write_chat_model(tmp_path, "llama")
    codec = PromptCodec.load(tmp_path, default_config(["model.max_length=400"]))
    assert len(codec.end_tokens) == 2
    keep_end_tokens(tmp_path, codec.end_tokens)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.eos_token_id == list(
        codec.end_tokens
    )
    assert named_ends(tmp_path) == set(codec.end_tokens)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "needs_tools"])
def test_a_response_s_text_has_no_end_token(codec_of: MakeCodec, kind: Kind) -> None:
    codec = codec_of(kind)
    said = codec.tokenizer.encode("7 apples", add_special_tokens=False)
    for end in codec.end_tokens:
        assert codec.decode([*said, end]) == "7 apples"
        assert codec.decode([end]) == ""
    assert codec.decode(said) == "7 apples"
    assert codec.decode([]) == ""


def test_a_token_that_only_the_model_has_is_seen(codec_of: MakeCodec) -> None:
    codec = codec_of("padded_vocabulary")
    four, two = codec.tokenizer.encode("42", add_special_tokens=False)
    unknown = len(codec.tokenizer)
    assert codec.decode([four, unknown, two, codec.end_tokens[0]]) == "4\ufffd2"
    assert codec.decode([unknown, unknown + 9]) == "\ufffd\ufffd"


@pytest.mark.parametrize("kind", ["chatml", "chatml_base", "llama", "gemma", "strips"])
def test_a_reply_continues_as_the_template_would_whatever_ended_the_response(
    codec_of: MakeCodec, kind: Kind
) -> None:
    codec = codec_of(kind)
    assert codec.template is not None
    turn_end = codec.template.turn_end()
    response = codec.tokenizer.encode("answer", add_special_tokens=False)
    whole = codec.tokenizer.apply_chat_template(
        [
            {"role": "user", "content": "question"},
            {"role": "assistant", "content": "answer"},
            {"role": "user", "content": "go on"},
        ],
        add_generation_prompt=True,
        return_dict=False,
    )
    prompt = codec.encode(PROBLEM)
    for end in codec.end_tokens:
        reply = codec.encode_reply(PROBLEM, "go on", end)
        history = [*prompt, *response, end, *reply]
        if end != turn_end:
            history.remove(end)
        assert history == whole


def test_a_reply_without_a_template_follows_as_it_is(codec_of: MakeCodec) -> None:
    codec = codec_of("appends_eos")
    assert codec.tokenizer.decode(codec.encode_reply(PROBLEM, "lower\n", codec.end_tokens[0])) == "lower\n"


@pytest.mark.parametrize("kind", ["rewrites_history", "ends_in_eos"])
def test_a_template_that_changes_history_is_refused_for_replies(codec_of: MakeCodec, kind: Kind) -> None:
    codec = codec_of(kind)
    with pytest.raises(ScopeError, match=r"the chat template (changes earlier turns|leaves out)"):
        codec.encode_reply(PROBLEM, "lower", codec.end_tokens[0])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no_bos", "the chat template does not write it"),
        ("two_bos", "begins prompts with '<s>' twice"),
        ("ends_in_eos", "ends prompts with the end token '</s>'"),
        ("appends_eos", "ends every text with the end token '</s>'"),
        ("dated", "the day's date"),
    ],
)
def test_what_is_unusual_is_said(codec_of: MakeCodec, kind: Kind, words: str) -> None:
    (said,) = surprises(codec_of(kind), PROBLEM)
    assert words in said


@pytest.mark.parametrize("kind", ["chatml", "chatml_base", "gemma", "llama", "strips", "no_pad"])
def test_nothing_is_said_of_a_usual_template(codec_of: MakeCodec, kind: Kind) -> None:
    assert surprises(codec_of(kind), PROBLEM) == []


def test_the_in_process_sampler_stops_at_every_end_token_and_needs_no_pad_token(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(write_chat_model(tmp_path, "no_pad", layers=1))
    prompts, ends = [[1, 2, 3], [5]], tuple(range(200, 263))
    drawn = sample(
        model, prompts, ends, samples=40, max_new_tokens=30, generator=torch.Generator().manual_seed(3)
    )
    seen = set()
    for tokens, length, ended in zip(drawn.tokens, drawn.lengths.tolist(), drawn.ended, strict=True):
        among = torch.isin(tokens[:length], torch.tensor(ends))
        assert not among[:-1].any()
        assert bool(among[-1]) == bool(ended)
        seen |= {int(tokens[length - 1])} if ended else set()
    assert len(seen) > 10
