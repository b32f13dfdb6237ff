"""The built-in model: a Qwen3 transformer of under a million parameters with the vocabulary of its task.

It is a regular Hugging Face model, which the learner and vLLM load like a large one. Its embeddings are untied: vLLM's
CPU engines pack `lm_head` at start-up, and reloads would not reach a tied one.
"""

from __future__ import annotations

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trainer.config import ModelConfig
from trainer.tasks import Vocabulary

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"


def build_tokenizer(vocabulary: Vocabulary, max_length: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a task's vocabulary; everything else is `<unk>`. It adds no special tokens to a text."""
    ids = {token: i for i, token in enumerate([PAD, EOS, UNKNOWN, *vocabulary.tokens])}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    if vocabulary.split == "characters":
        core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        core.decoder = decoders.Fuse()
    else:
        # Without a decoder, decoding joins tokens with spaces.
        core.pre_tokenizer = pre_tokenizers.Split(
            Regex(r"[0-9]+|[A-Za-z]+|\S"), behavior="removed", invert=True
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def build_model(config: ModelConfig, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A newly initialised float32 model for `tokenizer`'s vocabulary, deterministic by seed."""
    vocabulary = tokenizer.get_vocab()
    qwen = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_length,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=vocabulary[EOS],
        pad_token_id=vocabulary[PAD],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(qwen).float()
