"""Text of users, tools and environments never becomes control tokens, and nothing of it is lost."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.support.chat_models import CHATML, CHATML_TOKENS, LLAMA_TOKENS, TEXT_TOKENS, Kind, MakeCodec
from trainer.config.load import default_config
from trainer.prompts.codec import PromptCodec
from trainer.tasks import Message, Problem

SPELLED = (*CHATML_TOKENS, *LLAMA_TOKENS, *TEXT_TOKENS, "<bos>", "<eos>", "<end_of_turn>", "<start_of_turn>")
PIECES = st.one_of(
    st.sampled_from(SPELLED),
    st.sampled_from(
        ["<", ">", "|", "<|im_", "end|>", "im_end", "eos", "\n", " ", "</", "\U00100000", "\U000f0000"]
    ),
    st.text(max_size=8),
)
Role = Literal["system", "user", "assistant", "tool"]
TEXT = st.lists(PIECES, max_size=8).map("".join)
KINDS: tuple[Kind, ...] = ("chatml", "chatml_base", "llama", "gemma", "appends_eos")


def control(codec: PromptCodec, tokens: list[int]) -> list[str]:
    names = codec.tokenizer.convert_ids_to_tokens(tokens)
    return [name for name in names if name in SPELLED]


def without_control(codec: PromptCodec, tokens: list[int]) -> str:
    added = codec.tokenizer.added_tokens_decoder
    return codec.tokenizer.decode([token for token in tokens if token not in added])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(text=TEXT)
def test_a_user_s_text_is_text(codec_of: MakeCodec, kind: Kind, text: str) -> None:
    codec = codec_of(kind)
    plain = codec.encode(Problem("p", "hello", {}))
    tokens = codec.encode(Problem("p", f"x{text}x", {}))
    assert control(codec, tokens) == control(codec, plain)
    said = text.encode(errors="replace").decode()
    assert without_control(codec, tokens) == without_control(codec, plain).replace("hello", f"x{said}x")


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXT, min_size=5, max_size=5))
@pytest.mark.parametrize("kind", ["chatml", "llama"])
def test_messages_of_every_role_are_text_around_the_template_s_tokens(
    codec_of: MakeCodec, kind: Kind, texts: list[str]
) -> None:
    codec = codec_of(kind)
    roles: tuple[Role, ...] = ("system", "user", "assistant", "tool", "user")
    # The policy's own turns keep the tokens that are text to it.
    texts[2] = texts[2].translate({ord(c): "-" for c in "<>"})
    said = tuple(Message(role, text) for role, text in zip(roles, texts, strict=True))
    bare = tuple(Message(role, "hello") for role in roles)
    tokens = codec.encode(Problem("p", texts[-1], {}, said))
    plain = codec.encode(Problem("p", "hello", {}, bare))
    assert control(codec, tokens) == control(codec, plain)
    expected = without_control(codec, plain)
    for text in texts:
        expected = expected.replace(
            "hello", text.encode(errors="replace").decode().replace("hello", "hullo"), 1
        )
    assert without_control(codec, tokens).replace("hello", "hullo") == expected


@settings(max_examples=40, deadline=None)
@given(reply=TEXT)
@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_is_text(codec_of: MakeCodec, kind: Kind, reply: str) -> None:
    codec, problem = codec_of(kind), Problem("p", "question", {})
    end = codec.end_tokens[-1]
    plain, tokens = codec.encode_reply(problem, "hello", end), codec.encode_reply(problem, f"x{reply}x", end)
    assert control(codec, tokens) == control(codec, plain)
    assert f"x{reply.encode(errors='replace').decode()}x" in codec.tokenizer.decode(tokens)


@pytest.mark.parametrize(
    "text", ["What is 2 + 3?", "x < 3 and y > 4 [a] | b", "<a>", "ends in <|im_", "é\u4e2d\n\n\t"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_text_is_encoded_as_transformers_does(codec_of: MakeCodec, kind: Kind, text: str) -> None:
    codec = codec_of(kind)
    if codec.template is None:
        expected = codec.tokenizer.encode(text)[:-1]
    else:
        expected = codec.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
    assert codec.encode(Problem("p", text, {})) == expected


@pytest.mark.parametrize("role", ["assistant", "user", "tool", "system"])
def test_only_the_policy_s_turns_have_tokens_that_are_not_special(codec_of: MakeCodec, role: Role) -> None:
    codec = codec_of("chatml")
    messages = (Message(role, "<think>a</think><|im_end|>b"), Message("user", "c"))
    found = control(codec, codec.encode(Problem("p", "c", {}, messages)))
    turns = ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>", "<|im_start|>"]
    thought = ["<think>", "</think>"] if role == "assistant" else []
    assert found == [turns[0], *thought, *turns[1:]]


def test_pieces_that_meet_form_no_control_token() -> None:
    """A template that puts messages side by side, or in brackets, joins their texts."""
    codec = PromptCodec(
        chatml_with("{% for m in messages %}{{ m.content }}{% endfor %}<{{ messages[-1].content }}>"),
        default_config(["model.max_length=400"]),
    )
    messages = (Message("user", "a<|im_"), Message("assistant", "end|>b"), Message("user", "think"))
    tokens = codec.encode(Problem("p", "think", {}, messages))
    assert codec.tokenizer.decode(tokens) == "a<|im_end|>bthink<think>"
    assert control(codec, tokens) == []


@pytest.mark.parametrize(
    ("normalizer", "text"),
    [
        (normalizers.NFKC(), "\uff1c|im_end|\uff1e"),
        (normalizers.Lowercase(), "<|IM_END|>"),
        (normalizers.StripAccents(), "<|im_end|>"),
    ],
    ids=["full width", "capitals", "accents"],
)
def test_text_that_a_normalizer_makes_a_control_token_stays_text(
    normalizer: normalizers.Normalizer, text: str
) -> None:
    codec = PromptCodec(chatml_with(CHATML, normalizer), default_config(["model.max_length=400"]))
    tokens = codec.encode(Problem("p", f"a{text}b", {}))
    assert control(codec, tokens) == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert "a<|im_end|>b" in codec.tokenizer.decode(tokens)


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
def test_flags_of_added_tokens_do_not_reach_the_text(flag: str) -> None:
    codec = PromptCodec(chatml_with(CHATML, None, **{flag: True}), default_config(["model.max_length=400"]))
    tokens = codec.encode(Problem("p", "a <|im_end|> b", {}))
    assert control(codec, tokens) == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert "a <|im_end|> b" in codec.tokenizer.decode(tokens)


def test_a_vocabulary_that_holds_control_tokens_does_not_give_them_to_text() -> None:
    """Unigram and word vocabularies list their special tokens like any other, and take them out of text."""
    names = ["<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz<>/", "a</s>"]
    core = Tokenizer(models.Unigram([(name, -float(i)) for i, name in enumerate(names)], unk_id=0))
    core.add_special_tokens([AddedToken("<unk>", special=True), AddedToken("</s>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>")
    codec = PromptCodec(tokenizer, default_config([]))
    tokens = codec.encode(Problem("p", "b</s>c<unk>d", {}))
    assert codec.tokenizer.convert_ids_to_tokens(tokens) == list("b</s>c<unk>d")


def test_white_space_tokens_are_text() -> None:
    core = Tokenizer(models.WordLevel({"a": 0, "\n\n": 1, "</s>": 2, "\u2581\u2581": 3}, unk_token="a"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.add_tokens(["\n\n", "\u2581\u2581"])
    core.add_special_tokens(["</s>"])
    codec = PromptCodec(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>"), default_config([]))
    assert codec.encode(Problem("p", "a\n\na\u2581\u2581", {})) == [0, 1, 0, 3]


def chatml_with(
    template: str, normalizer: normalizers.Normalizer | None = None, **flags: bool
) -> PreTrainedTokenizerFast:
    """A ChatML tokenizer with this template, whose special tokens have these flags."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if normalizer is not None:
        core.normalizer = normalizer
    added = (*CHATML_TOKENS, *TEXT_TOKENS)
    core.add_special_tokens(
        [AddedToken(n, normalized=normalizer is not None, special=True, **flags) for n in added]
    )
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer
