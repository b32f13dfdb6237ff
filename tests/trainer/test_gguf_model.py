"""GGUF files converted to Hugging Face directories keep the file's weights and tokenizer."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from services.cli.main import main
from trainer.errors import ScopeError
from trainer.starting_model.gguf import import_gguf

TOKENS = ["<|endoftext|>", "<s>", "</s>", "ab", *"abcdefgh0123456789+-*/=() "]
KV_HEADS = 2
EXTRA = 64 - len(TOKENS)
CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def write_gguf(
    path: Path, model: LlamaForCausalLM, architecture: str = "llama", more_tokens: int = 0
) -> None:
    """Write the file as llama.cpp's converter does, with its names and its row order of query and key."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*TOKENS, *(f"<extra{i}>" for i in range(EXTRA + more_tokens))])
    writer.add_token_merges(["a b"])
    writer.add_token_types([3, 3, 3, *[1] * (61 + more_tokens)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": KV_HEADS}
    for name, tensor in model.state_dict().items():
        array = tensor.float().numpy()
        for part, count in heads.items():
            if part in name:
                rows = array.shape[0] // count // 2
                array = array.reshape(count, 2, rows, -1).swapaxes(1, 2).reshape(array.shape)
        written = names.get_name(name, try_suffixes=(".weight",))
        assert written is not None
        writer.add_tensor(written, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def test_weights_and_tokenizer_are_those_of_the_file(
    model: LlamaForCausalLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gguf(tmp_path / "model.gguf", model)
    assert main(["import", str(tmp_path / "model.gguf"), "--out", str(tmp_path / "out")]) == 0
    parameters = sum(p.numel() for p in model.parameters())
    assert f"llama, {parameters:,} parameters, with a chat template" in capsys.readouterr().out
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert found.state_dict().keys() == model.state_dict().keys()
    ids = torch.arange(3, 40)[None]
    torch.testing.assert_close(found(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.eos_token == "</s>"
    assert tokenizer.chat_template == CHAT
    assert [path.name for path in tmp_path.glob(".writing-*")] == []


def test_what_cannot_be_imported_is_said(model: LlamaForCausalLM, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ScopeError, match=r"FILE='.*missing.gguf' cannot be read"):
        import_gguf(tmp_path / "missing.gguf", out, "float32")
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ScopeError, match="is not a GGUF file"):
        import_gguf(tmp_path / "text.gguf", out, "float32")
    write_gguf(tmp_path / "other.gguf", model, architecture="unheard-of")
    with pytest.raises(ScopeError, match="cannot be read by transformers"):
        import_gguf(tmp_path / "other.gguf", out, "float32")
    write_gguf(tmp_path / "more.gguf", model, more_tokens=2)
    with pytest.raises(ScopeError, match=r"more\.gguf.* cannot be trained: .*do not belong together"):
        import_gguf(tmp_path / "more.gguf", out, "float32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["more.gguf", "other.gguf", "text.gguf"]
    out.mkdir()
    (out / "something").touch()
    with pytest.raises(ScopeError, match="is not empty"):
        import_gguf(tmp_path / "other.gguf", out, "float32")
