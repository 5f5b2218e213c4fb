"""The optimiser of `train_bundled.py`."""

import torch

# Shares of the learning rate. Copying adds up embeddings as they are: they change more slowly than the rest.
EMBEDDING_RATE, NORM_RATE, SHARPNESS_RATE = 1.2, 0.1, 0.3


def orthogonalise(g, dtype):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix of each (the Muon update)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    turned = x.shape[-2] > x.shape[-1]
    x = x.mT if turned else x
    for _ in range(5):
        m = x @ x.mT
        x = a * x + (b * m + c * m @ m) @ x
    return (x.mT if turned else x).float()


class Muon:
    """Momentum with orthogonalised updates for the hidden matrices, AdamW for embeddings and norms.

    The update is scaled to the size AdamW's would have, so that one learning rate serves both. `dtype` is what matrices are
    orthogonalised in."""

    def __init__(self, model, free, decay, dtype):
        self.decay, self.dtype, parts = decay, dtype, model.blocks[0].parts
        matrices = [(n, p) for n, p in model.named_parameters() if n.startswith("blocks") and p.dim() == 2]
        self.matrices = [p for _, p in matrices]
        self.free = [free.get(n, torch.ones_like(p)) for n, p in matrices]
        # Matrices that are kept as one are orthogonalised as several: q, k and v, gate and up.
        self.parts = [parts if "qkv" in n else p.shape[0] // 2 if "gate_up" in n else p.shape[0] for n, p in matrices]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        groups = {EMBEDDING_RATE: [], NORM_RATE: [], SHARPNESS_RATE: []}
        for n, p in model.named_parameters():
            if n.startswith("embed"):
                groups[EMBEDDING_RATE].append(p)
            elif n.endswith("sharpness"):
                groups[SHARPNESS_RATE].append(p)
            elif p.dim() == 1:
                groups[NORM_RATE].append(p)
        groups = [{"params": group, "share": share} for share, group in groups.items()]
        self.adam = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, foreach=True)

    @torch.no_grad()
    def step(self, lr, team):
        grads = [p.grad for p in self.matrices]
        torch._foreach_mul_(self.momentum, 0.95)
        torch._foreach_add_(self.momentum, grads)
        updates = torch._foreach_add(grads, self.momentum, alpha=0.95)
        torch._foreach_mul_(self.matrices, torch._foreach_add(torch._foreach_mul(self.free, -lr * self.decay), 1.0))
        pieces = [piece for u, parts in zip(updates, self.parts) for piece in u.split(parts)]
        shapes = {}
        for piece in pieces:
            shapes.setdefault(piece.shape, []).append(piece)
        for shape, same in shapes.items():
            # Orthogonalising takes as long as a quarter of the passes on a CPU: each process does its share.
            own = slice(team.rank, None, team.size)
            done = torch.zeros(len(same), *shape, device=same[0].device)
            if same[own]:
                done[own] = orthogonalise(torch.stack(same[own]), self.dtype) * (0.2 * max(shape) ** 0.5)
            team.add([done])
            for piece, new in zip(same, done):
                piece.copy_(new)
        torch._foreach_addcmul_(self.matrices, self.free, updates, value=-lr)
        for g in self.adam.param_groups:
            g["lr"] = lr * g["share"]
        self.adam.step()

    def state(self):
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def load(self, state):
        for mine, saved in zip(self.momentum, state["momentum"]):
            mine.copy_(saved)
        self.adam.load_state_dict(state["adam"])
