"""A Llama decoder in plain PyTorch, small and quick to train.

The arithmetic is that of `LlamaForCausalLM` (RMSNorm before each block, rotary positions over split halves, SwiGLU,
tied embeddings), so the exported weights load in Hugging Face transformers as they are. Two things differ, for speed
only: q/k/v and gate/up are one matrix each, and the vocabulary head is computed only where there is a label. Dropout
works in training alone, and a number for each head that is part of the query weights once exported.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocab: int = 4096
    hidden: int = 512
    ffn: int = 512
    layers: int = 5
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 64
    theta: float = 1e12
    eps: float = 1e-5
    context: int = 2048


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


def rotary_tables(cfg, device=None):
    inv = 1.0 / (cfg.theta ** (torch.arange(0, cfg.head_dim, 2, dtype=torch.float32) / cfg.head_dim))
    angle = torch.outer(torch.arange(cfg.context, dtype=torch.float32), inv)
    return angle.cos().to(device), angle.sin().to(device)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def attend(q, k, v):
    """Causal attention, for training: on short rows much faster than torch's fused kernel on a CPU, whose backward pass
    takes longer than all matrices together. The scores are f32, because the circuit's are large."""
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    b, heads, t, d = q.shape
    kv = k.shape[1]
    scores = q.reshape(b, kv, -1, d).float() @ k.float().transpose(-1, -2) * d**-0.5
    future = torch.ones(t, t, dtype=torch.bool, device=q.device).triu(1)
    weights = scores.view(b, kv, -1, t, t).masked_fill(future, float("-inf")).softmax(-1).to(v.dtype)
    return (weights.view(b, kv, -1, t) @ v).view(b, heads, t, d)


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d, inner = cfg.hidden, cfg.heads * cfg.head_dim
        self.cfg = cfg
        self.parts = (inner, cfg.kv_heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim)
        self.norm_attention = RMSNorm(d, cfg.eps)
        self.qkv = nn.Linear(d, sum(self.parts), bias=False)
        self.out = nn.Linear(inner, d, bias=False)
        self.norm_ffn = RMSNorm(d, cfg.eps)
        self.gate_up = nn.Linear(d, 2 * cfg.ffn, bias=False)
        self.down = nn.Linear(cfg.ffn, d, bias=False)
        # How sharply each head attends. It scales the queries, and is multiplied into their weights on export: the
        # frozen circuit can follow what is learnt around it in this one number.
        self.sharpness = nn.Parameter(torch.ones(cfg.heads))
        self.dropout = 0.0

    def forward(self, x, cos, sin, cache=None):
        b, t, _ = x.shape
        c = self.cfg
        qkv = self.qkv(self.norm_attention(x)).split(self.parts, dim=-1)
        q, k, v = (y.view(b, t, -1, c.head_dim).transpose(1, 2) for y in qkv)
        q, k = rotate(q * self.sharpness[:, None, None], cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
            y = cache.attend(q, k, v)
        else:
            y = attend(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, -1))
        gate, up = self.gate_up(self.norm_ffn(x)).chunk(2, dim=-1)
        return x + self.down(F.dropout(F.silu(gate) * up, self.dropout))


class Model(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.vocab, cfg.hidden)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.norm = RMSNorm(cfg.hidden, cfg.eps)
        cos, sin = rotary_tables(cfg)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.6 / p.shape[1] ** 0.5)
                # A block does nothing until it has learnt something.
                if name.endswith(("out.weight", "down.weight")):
                    nn.init.zeros_(p)

    def trunk(self, ids, tap=None):
        """The last hidden states; with `tap` also those after so many blocks."""
        t = ids.shape[1]
        x = self.embed(ids)
        cos, sin = self.cos[:t].to(x.dtype), self.sin[:t].to(x.dtype)
        tapped = None
        for i, block in enumerate(self.blocks, 1):
            x = block(x, cos, sin)
            tapped = x if i == tap else tapped
        return self.norm(x) if tap is None else (self.norm(x), tapped)

    def forward(self, ids, where):
        """Logits at the flat positions `where` of the batch `ids` (batch, time)."""
        x = self.trunk(ids)
        return x.reshape(-1, x.shape[-1])[where] @ self.embed.weight.t()


def to_hf(model):
    """State dict under the names of Hugging Face's LlamaForCausalLM (tied: no lm_head)."""
    out = {"model.embed_tokens.weight": model.embed.weight, "model.norm.weight": model.norm.weight}
    for i, b in enumerate(model.blocks):
        p = f"model.layers.{i}."
        q, k, v = b.qkv.weight.split(b.parts)
        q = q * b.sharpness.repeat_interleave(model.cfg.head_dim)[:, None]
        gate, up = b.gate_up.weight.chunk(2)
        out |= {
            p + "self_attn.q_proj.weight": q,
            p + "self_attn.k_proj.weight": k,
            p + "self_attn.v_proj.weight": v,
            p + "self_attn.o_proj.weight": b.out.weight,
            p + "mlp.gate_proj.weight": gate,
            p + "mlp.up_proj.weight": up,
            p + "mlp.down_proj.weight": b.down.weight,
            p + "input_layernorm.weight": b.norm_attention.weight,
            p + "post_attention_layernorm.weight": b.norm_ffn.weight,
        }
    return {k: v.detach().clone().contiguous() for k, v in out.items()}


def from_hf(state, cfg):
    """The model of a state dict under Hugging Face's names."""
    model = Model(cfg)
    own = {"embed.weight": state["model.embed_tokens.weight"], "norm.weight": state["model.norm.weight"]}
    for i in range(cfg.layers):
        p, b = f"model.layers.{i}.", f"blocks.{i}."
        own |= {
            b + "qkv.weight": torch.cat([state[f"{p}self_attn.{x}_proj.weight"] for x in "qkv"]),
            b + "gate_up.weight": torch.cat([state[f"{p}mlp.{x}_proj.weight"] for x in ("gate", "up")]),
            b + "out.weight": state[p + "self_attn.o_proj.weight"],
            b + "down.weight": state[p + "mlp.down_proj.weight"],
            b + "norm_attention.weight": state[p + "input_layernorm.weight"],
            b + "norm_ffn.weight": state[p + "post_attention_layernorm.weight"],
            b + "sharpness": torch.ones(cfg.heads),
        }
    model.load_state_dict({k: v.float() for k, v in own.items()})
    return model


def hf_config(cfg, end, pad):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": cfg.hidden,
        "intermediate_size": cfg.ffn,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_dim,
        "vocab_size": cfg.vocab,
        "max_position_embeddings": cfg.context,
        "rms_norm_eps": cfg.eps,
        "rope_theta": cfg.theta,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
        "torch_dtype": "float16",
        "use_cache": True,
    }


def config_of(hf):
    """The inverse of `hf_config`."""
    return Config(
        vocab=hf["vocab_size"], hidden=hf["hidden_size"], ffn=hf["intermediate_size"], layers=hf["num_hidden_layers"],
        heads=hf["num_attention_heads"], kv_heads=hf["num_key_value_heads"], head_dim=hf["head_dim"],
        theta=hf["rope_theta"], eps=hf["rms_norm_eps"], context=hf["max_position_embeddings"],
    )


def save_checkpoint(path, **state):
    """Writes beside and renames, so that an interrupted save never destroys the last good one."""
    path = Path(path)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path, device="cpu"):
    return torch.load(path, map_location=device, weights_only=False)


def describe(cfg):
    return json.dumps(asdict(cfg))
