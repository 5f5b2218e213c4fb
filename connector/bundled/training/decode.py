"""Greedy decoding of the bundled Aligner in batches, for evaluation: returns texts and log-probabilities."""

import json

import torch
from safetensors.torch import load_file

from model import config_of, from_hf
from prepare import END, PAD, UNCHANGED, load, prompt_ids


class Cache:
    """Keys and values of one layer; `mask` (batch, 1, 1, time) hides left padding."""

    def __init__(self):
        self.k = self.v = None
        self.mask = None

    def append(self, k, v):
        self.k = k if self.k is None else torch.cat((self.k, k), 2)
        self.v = v if self.v is None else torch.cat((self.v, v), 2)
        return self.k, self.v

    def attend(self, q, k, v):
        t, total = q.shape[2], k.shape[2]
        mask = self.mask[:, :, :, :total]
        if t > 1:
            mask = mask & torch.ones(t, total, dtype=torch.bool).tril(total - t)
            mask = mask | torch.eye(t, total, dtype=torch.bool)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


class Decoder:
    """Decodes with an exported folder: what is judged is what is stored."""

    def __init__(self, folder):
        state = load_file(f"{folder}/model.safetensors")
        self.model = from_hf(state, config_of(json.load(open(f"{folder}/config.json")))).eval()
        self.tok = load(f"{folder}/tokenizer.json")

    @torch.no_grad()
    def batch(self, prompts, limit):
        m = self.model
        n = max(map(len, prompts))
        ids = torch.full((len(prompts), n), PAD)
        mask = torch.zeros(len(prompts), 1, 1, n + limit + 1, dtype=torch.bool)
        start = torch.zeros(len(prompts), dtype=torch.long)
        for r, p in enumerate(prompts):
            ids[r, n - len(p) :] = torch.tensor(p)
            mask[r, :, :, n - len(p) :] = True
            start[r] = n - len(p)
        caches = [Cache() for _ in m.blocks]
        for c in caches:
            c.mask = mask
        out, logs = [[] for _ in prompts], [[] for _ in prompts]
        live = list(range(len(prompts)))
        position = (torch.arange(n)[None] - start[:, None]).clamp(min=0)
        step = ids
        for i in range(limit):
            x = m.embed(step)
            cos, sin = m.cos[position][:, None], m.sin[position][:, None]
            for block, cache in zip(m.blocks, caches):
                x = block(x, cos, sin, cache)
            logits = m.norm(x[:, -1]) @ m.embed.weight.t()
            best = logits.argmax(-1)
            lp = torch.log_softmax(logits, -1).gather(1, best[:, None])[:, 0]
            keep = []
            for r, row in enumerate(live):
                out[row].append(int(best[r]))
                logs[row].append(float(lp[r]))
                if int(best[r]) not in (END, UNCHANGED):
                    keep.append(r)
            if not keep:
                break
            if len(keep) < len(live):
                k = torch.tensor(keep)
                live = [live[r] for r in keep]
                best, position, mask = best[k], position[k], mask[k]
                for c in caches:
                    c.k, c.v, c.mask = c.k[k], c.v[k], mask
            step = best[:, None]
            position = position[:, -1:] + 1
        return out, logs

    def run(self, pairs, batch_tokens=6000):
        """For every (question, answer): (output text, or None for unchanged; log-probabilities; answer's tokens;
        whether it ended by itself)."""
        prompts = [prompt_ids(self.tok, q, a) for q, a in pairs]
        order = sorted(range(len(pairs)), key=lambda i: len(prompts[i]))
        results = [None] * len(pairs)
        at = 0
        while at < len(order):
            part = []
            while at < len(order) and (not part or (len(part) + 1) * len(prompts[order[at]]) <= batch_tokens):
                part.append(order[at])
                at += 1
            answer_tokens = {i: len(prompts[i]) - prompts[i].index(2) - 2 for i in part}
            outs, logs = self.batch([prompts[i] for i in part], max(answer_tokens.values()) + 80)
            for i, o, lp in zip(part, outs, logs):
                if o[0] == UNCHANGED:
                    results[i] = (None, lp, answer_tokens[i], True)
                else:
                    ended = o[-1] == END
                    text = self.tok.decode([t for t in o if t > 5], skip_special_tokens=False)
                    results[i] = (text, lp, answer_tokens[i], ended)
        return results
