"""Tiny random models whose tokenizers and chat templates have the surprises of published ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.prompts.codec import PromptCodec

Kind = Literal[
    "chatml",
    "chatml_base",
    "gemma",
    "llama",
    "strips",
    "drops_system",
    "rewrites_history",
    "appends_eos",
    "no_bos",
    "two_bos",
    "ends_in_eos",
    "needs_tools",
    "dated",
    "no_pad",
    "padded_vocabulary",
]
"""
chatml: <|im_end|> is the eos token, with thinking and tool tokens that are added but not special;
chatml_base: the same template, but eos is <|endoftext|>, as in Qwen2.5-Math; generation_config.json has two end tokens;
gemma: no system role, roles must alternate, the template writes BOS;
llama: BOS from the template, a turn's end that is not eos;
strips: white space around messages is removed; drops_system: system messages are ignored;
rewrites_history: only the newest turn is kept; appends_eos: no template, and eos after every text;
no_bos, two_bos: the tokenizer begins with BOS, the template with none or two;
ends_in_eos: no generation prompt, so that prompts end in eos; needs_tools: fails without tools;
dated: writes the date; no_pad: chatml without a pad token; padded_vocabulary: the model has more ids than the tokenizer
"""
KINDS: tuple[Kind, ...] = get_args(Kind)

MakeCodec = Callable[..., PromptCodec]
"""kind, settings → its codec"""

POSITIONS = 1024
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA_TOKENS = ("<s>", "</s>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
TEXT_TOKENS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""added tokens that are not special, as in Qwen3"""


@dataclass(frozen=True)
class _Style:
    """What the files of a model say. ends: the end tokens of generation_config.json; None: as config.json."""

    special: tuple[str, ...]
    eos: str
    template: str | None
    bos: str | None = None
    pad: str | None = None
    ends: tuple[str, ...] | None = None
    adds: tuple[str, str] = ("", "")
    """tokens that the post-processor adds before and after every text"""
    extra_ids: int = 0
    config: dict[str, Any] = field(default_factory=dict)


_CHATML = _Style(CHATML_TOKENS, "<|im_end|>", CHATML, pad="<|endoftext|>")
_LLAMA = _Style(LLAMA_TOKENS, "</s>", LLAMA, bos="<s>", pad="</s>", adds=("<s>", ""))
_STYLES: dict[Kind, _Style] = {
    "chatml": _CHATML,
    "chatml_base": _Style(
        CHATML_TOKENS, "<|endoftext|>", CHATML, pad="<|endoftext|>", ends=("<|im_end|>", "<|endoftext|>")
    ),
    "gemma": _Style(
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        "<eos>",
        GEMMA,
        bos="<bos>",
        pad="<pad>",
        ends=("<eos>", "<end_of_turn>"),
        adds=("<bos>", ""),
    ),
    "llama": _LLAMA,
    "strips": _Style(
        CHATML_TOKENS, "<|im_end|>", CHATML.replace("m.content", "m.content | trim"), pad="<|endoftext|>"
    ),
    "drops_system": _Style(
        CHATML_TOKENS,
        "<|im_end|>",
        CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"),
        pad="<|endoftext|>",
    ),
    "rewrites_history": _Style(
        CHATML_TOKENS,
        "<|im_end|>",
        CHATML.replace("{% for m in messages %}", "{% for m in messages[-1:] %}"),
        pad="<|endoftext|>",
    ),
    "appends_eos": _Style(("<s>", "</s>"), "</s>", None, bos="<s>", pad="</s>", adds=("<s>", "</s>")),
    "no_bos": _Style(
        LLAMA_TOKENS, "</s>", LLAMA.removeprefix("{{ bos_token }}"), "<s>", "</s>", adds=("<s>", "")
    ),
    "two_bos": _Style(LLAMA_TOKENS, "</s>", "{{ bos_token }}" + LLAMA, "<s>", "</s>", adds=("<s>", "")),
    "ends_in_eos": _Style(
        ("<s>", "</s>"),
        "</s>",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}",
        bos="<s>",
        pad="</s>",
    ),
    "needs_tools": _Style(
        CHATML_TOKENS, "<|im_end|>", "{{ tools | length }} tools\n" + CHATML, pad="<|endoftext|>"
    ),
    "dated": _Style(
        CHATML_TOKENS,
        "<|im_end|>",
        "Today is {{ strftime_now('%Y-%m-%d') }}.\n" + CHATML,
        pad="<|endoftext|>",
    ),
    "no_pad": _Style(CHATML_TOKENS, "<|im_end|>", CHATML),
    "padded_vocabulary": _Style(CHATML_TOKENS, "<|im_end|>", CHATML, pad="<|endoftext|>", extra_ids=40),
}


def write_chat_model(folder: Path, kind: Kind, *, hidden_size: int = 64, layers: int = 2) -> Path:
    """Write a random Llama of this kind with its tokenizer; any text can be encoded, one token per byte."""
    style = _STYLES[kind]
    tokenizer = write_chat_tokenizer(folder, kind)
    ids = tokenizer.get_vocab()
    config = LlamaConfig(
        vocab_size=len(ids) + style.extra_ids,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=max(32, hidden_size // 2),
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=False,
        bos_token_id=None if style.bos is None else ids[style.bos],
        eos_token_id=ids[style.eos],
        pad_token_id=None if style.pad is None else ids[style.pad],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        LlamaForCausalLM(config).float().save_pretrained(folder)
    if style.ends is not None:
        file = folder / "generation_config.json"
        settings = json.loads(file.read_text()) | {"eos_token_id": [ids[end] for end in style.ends]}
        file.write_text(json.dumps(settings))
    return folder


def write_chat_tokenizer(folder: Path, kind: Kind) -> Any:
    """Write only the tokenizer's files; returns the tokenizer."""
    style = _STYLES[kind]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in style.special])
    core.add_tokens([AddedToken(token, normalized=False, special=False) for token in TEXT_TOKENS])
    before, after = style.adds
    if before or after:
        named = [name for name in (before, after) if name]
        core.post_processor = processors.TemplateProcessing(
            single=" ".join(name for name in (before, "$A", after) if name),
            special_tokens=[(name, core.token_to_id(name)) for name in named],
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=style.eos,
        bos_token=style.bos,
        pad_token=style.pad,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = style.template
    tokenizer.save_pretrained(folder)
    return tokenizer
