"""Equal random weights for every engine: a Llama of a given shape as GGUF and in Hugging Face layout.

    python weights.py SHAPE FOLDER        # SHAPE: 15m, 150m or 500m

writes FOLDER/q8_0.gguf, FOLDER/f32.gguf and FOLDER/hf/{config.json, model.safetensors} (f32).
Embeddings are tied, the vocabulary has 32,000 entries, heads have 64 components.
"""

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.numpy import save_file

VOCAB = 32_000
CONTEXT = 4096
# hidden, FFN, layers, heads
SHAPES = {
    "15m": (256, 768, 8, 4),
    "150m": (768, 2304, 18, 12),
    "500m": (1280, 3584, 22, 20),
}


def tensors(hidden, ffn, layers):
    """Hugging Face name, llama.cpp's name, values."""
    random = np.random.default_rng(0)

    def matrix(rows, columns):
        return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)

    yield "model.embed_tokens", "token_embd", matrix(VOCAB, hidden)
    for layer in range(layers):
        ours, theirs = f"model.layers.{layer}", f"blk.{layer}"
        yield f"{ours}.input_layernorm", f"{theirs}.attn_norm", np.ones(hidden, np.float32)
        for name, own in (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_output")):
            yield f"{ours}.self_attn.{name}_proj", f"{theirs}.{own}", matrix(hidden, hidden)
        yield f"{ours}.post_attention_layernorm", f"{theirs}.ffn_norm", np.ones(hidden, np.float32)
        for name in ("gate", "up"):
            yield f"{ours}.mlp.{name}_proj", f"{theirs}.ffn_{name}", matrix(ffn, hidden)
        yield f"{ours}.mlp.down_proj", f"{theirs}.ffn_down", matrix(hidden, ffn)
    yield "model.norm", "output_norm", np.ones(hidden, np.float32)


def interleaved(values, heads):
    """Query and key rows as llama.cpp stores them: what rotates together stands side by side."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def gguf(path, shape, kind):
    hidden, ffn, layers, heads = shape
    file = GGUFWriter(path, "llama")
    file.add_context_length(CONTEXT)
    file.add_embedding_length(hidden)
    file.add_block_count(layers)
    file.add_feed_forward_length(ffn)
    file.add_head_count(heads)
    file.add_head_count_kv(heads)
    file.add_rope_dimension_count(hidden // heads)
    file.add_rope_freq_base(10_000.0)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_vocab_size(VOCAB)
    file.add_tokenizer_model("none")
    for _, name, values in tensors(hidden, ffn, layers):
        if name.endswith(("attn_q", "attn_k")):
            values = np.ascontiguousarray(interleaved(values, heads))
        if values.ndim == 1 or kind == GGMLQuantizationType.F32:
            file.add_tensor(f"{name}.weight", values)
        else:
            file.add_tensor(f"{name}.weight", quants.quantize(values, kind), raw_dtype=kind)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def hugging_face(folder, shape):
    hidden, ffn, layers, heads = shape
    folder.mkdir(exist_ok=True)
    named = {f"{name}.weight": values for name, _, values in tensors(hidden, ffn, layers)}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def main():
    shape, folder = SHAPES[sys.argv[1]], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    gguf(folder / "q8_0.gguf", shape, GGMLQuantizationType.Q8_0)
    gguf(folder / "f32.gguf", shape, GGMLQuantizationType.F32)
    hugging_face(folder / "hf", shape)


if __name__ == "__main__":
    main()
