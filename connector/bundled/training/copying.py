"""Initial weights that already copy, so that training is spent on what to change.

Small models that learn to copy from random weights stall at a token error of a few percent: their circuit matches one
preceding token, and where that token is frequent they go on at another of its places. Here the circuit is written down
before training starts, and matches four tokens:

- **Embeddings** hold a constant, a code of a few numbers for each token, a part for copying and a part for all else. All
  have the same norm, so that RMSNorm scales them alike.
- **First block**: four heads look 1, 2, 3 and 4 tokens back by the phase of the rotary positions alone, and write the
  code found there into a place of its own. A fifth looks at the latest of `<|question|>`, `<|answer|>`,
  `<|correction|>` and writes which part of the prompt this is.
- **Last block**: in the correction, two heads compare the codes of the last four tokens with those before every token of
  the answer, and write the token found there; two more take out the current token, which would be predicted otherwise.
  The slowest rotary frequencies carry the comparison, so that distance does not matter; `theta` is large for that.
  Elsewhere these heads rest on `<|question|>`. They come last so that what the blocks between have found out can send
  them to rest, or to another place.
- **Second block**: the same comparison writes the code of the token that copying would write next.
- **The coming sentence**: a head of the second block looks for the latest token that starts a sentence (the one before it
  ends one, and it has a space in front, or the one before is a line break) and writes the codes that stand before it:
  the sentence's name. In the correction, a head of the third block finds the place in the answer where copying would go
  on, and writes the name of the sentence there. Two heads of the fourth compare the names, and read the tags of the whole
  sentence, ahead of what has been written: one of the tokens most likely to be faulty, one of all.
- **Tags**: what is wrong with each token of the answer has places of its own in the residual stream, which training
  asks to be right after the third block. In the fourth, the correction looks up the tags of the answer's next token and
  of the first and third after it; the tokens of the answer learn whether a fault ended up to three tokens ago. The
  copying heads of the last block shun tokens of a fault, and go to where one ended if the next token belongs to one.
  This part stays free to learn.

`<|correction|>` has the code of `<|answer|>`, so that copying begins at the first token, and is read out as `<|end|>`, so
that it ends after the last. All other weights are random, and add nothing at first. The circuit stays as it is, and what
it reads is written by nothing else before the last block; everything else learns around it.
"""

import math
import re

import numpy as np
import torch

from prepare import ANSWER, CORRECTION, END, QUESTION, RESUME as RESUME_TAG

CODE = 10
BACK = 4
# Places in the residual stream.
CONSTANT = 0
MARK = slice(1, 4)  # set in the embeddings of the three separators
PART = slice(4, 7)  # which part of the prompt a token stands in
BEFORE = [slice(7 + CODE * i, 7 + CODE * (i + 1)) for i in range(BACK)]
HERE = slice(47, 57)
NEXT = slice(57, 67)
COPY = slice(67, 171)
# What is wrong with a token, one place for each tag: nothing, one of the kinds, or a fault ended before it.
TAGS = slice(COPY.stop, COPY.stop + RESUME_TAG + 1)
FAULTY, RESUME = slice(TAGS.start + 1, TAGS.stop - 1), TAGS.stop - 1
AHEAD = slice(TAGS.stop, 2 * TAGS.stop - TAGS.start)  # the tags of a token to come
AFTER = AHEAD.stop  # a fault ended up to three tokens ago
OTHER = slice(AFTER + 1, 256)
# The codes before the sentence a token stands in, and before the one where copying would go on.
SENTENCE = slice(256, 256 + BACK * CODE)
COMING = slice(SENTENCE.stop, SENTENCE.stop + BACK * CODE)
ENDS, SPACED = COMING.stop, COMING.stop + 1  # in embeddings: the token ends a sentence, begins with a space
ENDED = SPACED + 1  # the token before ends a sentence
# The tags of the coming sentence: of its most suspicious token, and of all together.
WORST = slice(ENDED + 1, ENDED + 1 + TAGS.stop - TAGS.start)
WHOLE = slice(WORST.stop, 2 * WORST.stop - WORST.start)
MORE = slice(WHOLE.stop, 512)
WRITTEN = [slice(0, COPY.stop), slice(SENTENCE.start, ENDED + 1)]  # the circuit's alone before the last block
# What the circuit writes is longer by this than the above says, so that what is learnt beside it, which RMSNorm scales
# down together with it, does not blur it: trained without, its scores fell to a fifth within a hundred steps.
SCALE = 6.0
TAG_SCALE = 6.0 / SCALE  # from the residual stream to logits

NORM = 2.0  # of an embedding; its constant is 1
CODE_NORM, BEFORE_NORM, PART_NORM = 0.8, 0.7, 0.7
START_NORM, MARK_NORM = 1.3, 0.7
COPY_NORM = 1.22
GAIN = 2.4  # of the copied token
# In nats: what a token of a fault loses, what the first token after one wins always, and when the next token belongs to
# a fault, and what the three tokens after that win.
SHUN, RESUMED, CALLED_OFF, SINCE = 40.0, 6.0, 30.0, 12.0
# How much a match of the 1st, 2nd, 3rd and 4th token counts, in nats.
MATCH = (16.0, 14.0, 12.0, 12.0)
IN_ANSWER, REST, SEPARATORS, PHASE = 14.0, 70.0, 12.0, 22.0
LOCAL = range(7)  # rotary pairs that tell neighbours apart
SENTENCE_HEAD, COMING_HEAD = 2, 0  # in the second and in the third block
FLAG = 0.5  # of ENDS and SPACED in embeddings; a line break ends a sentence twice
MORE_NORM = 1.3  # of the second half of an embedding
STARTS = 40.0  # nats for each of the two signs that a sentence starts
SUSPECT = 1.0  # nats for each nat that a tag of a kind is the likelier


def recency():
    """(rotary pairs, their cosines, their sines, their sum at 0) of a score that falls by a nat for each of the nearest
    tokens and by a third of one far away, as nearly as waves of the rotary lengths can add up to it over 420 tokens."""
    distance = np.arange(420)
    pairs = np.arange(1, 9)
    waves = np.outer(distance, 1e12 ** (-pairs / 32))
    waves = np.concatenate([np.cos(waves), np.sin(waves), np.ones((420, 1))], axis=1)
    wanted = -np.cumsum(0.35 + 0.65 * np.exp(-distance / 40))
    ridge = np.diag([5e-5] * 16 + [0.0])
    fit = np.linalg.solve(waves.T @ waves / 420 + ridge, waves.T @ wanted / 420)
    return pairs.tolist(), fit[:8].tolist(), fit[8:16].tolist(), float(fit[:8].sum())


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def sentence_flags(texts):
    """(how much each token ends a sentence, whether it begins with a space) of the tokens' texts."""
    ends = [2.0 if "\n" in t else float(re.search(r"[.!?:…][)`*]*$|[.!?:]\W*$", t) is not None) for t in texts]
    spaced = [float(t.startswith(" ")) for t in texts]
    return torch.tensor(ends), torch.tensor(spaced)


def embeddings(vocab, hidden, texts, generator):
    random = lambda place: unit(torch.randn(vocab, place.stop - place.start, generator=generator))
    e = torch.zeros(vocab, hidden)
    e[:, CONSTANT] = 1.0
    # The first number of a code belongs to the separators, so that nothing passes for the first token of the answer.
    e[:, HERE.start + 1 : HERE.stop] = CODE_NORM * random(slice(HERE.start + 1, HERE.stop))
    e[:, COPY] = COPY_NORM * random(COPY)
    e[:, OTHER] = (NORM**2 - 1 - CODE_NORM**2 - COPY_NORM**2) ** 0.5 * random(OTHER)
    e[QUESTION, 1:] = 0
    e[QUESTION, MARK.start] = (NORM**2 - 1) ** 0.5
    for i, token in ((1, ANSWER), (2, CORRECTION)):
        e[token, HERE] = 0
        e[token, HERE.start] = START_NORM
        e[token, MARK.start + i] = MARK_NORM
        e[token, COPY] = 0.9 * unit(e[END, COPY])
        e[token, OTHER] *= 0
    ends, spaced = sentence_flags(texts)
    ends[[ANSWER, CORRECTION]] = 2.0
    e[:, ENDS], e[:, SPACED] = FLAG * ends, FLAG * spaced
    flags = e[:, [ENDS, SPACED]].square().sum(1)
    e[:, MORE] = (MORE_NORM**2 - flags).sqrt()[:, None] * random(MORE)
    return e


@torch.no_grad()
def initialise(model, texts, seed=1):
    """Writes the copying circuit into a model of fresh random weights; `texts` are those of the tokens. Returns, by
    parameter name, 1 where a weight is free to learn and 0 where it belongs to the circuit: left to the optimiser, the
    circuit is worn down within a hundred steps, long before anything better takes its place."""
    cfg = model.cfg
    assert cfg.hidden == MORE.stop and cfg.heads == 8 and cfg.kv_heads == 4 and cfg.head_dim == 64 and cfg.layers == 5
    last = cfg.layers - 1
    half, root = cfg.head_dim // 2, cfg.head_dim**0.5
    share = cfg.heads // cfg.kv_heads
    weights = dict(model.named_parameters())
    free = {n: torch.ones_like(p) for n, p in weights.items() if n.startswith(("embed", "blocks"))}
    read = torch.ones(cfg.hidden)
    for place in WRITTEN:
        read[place] = 0
    free["embed.weight"] *= read
    for i in range(last):
        free[f"blocks.{i}.out.weight"] *= read[:, None]
        free[f"blocks.{i}.down.weight"] *= read[:, None]
    e = embeddings(cfg.vocab, cfg.hidden, texts, torch.Generator().manual_seed(seed))
    weights["embed.weight"].copy_(e)

    def views(tensors, block):
        q, k, v = tensors[f"blocks.{block}.qkv.weight"].split(model.blocks[block].parts)
        heads = lambda w: w.view(-1, cfg.head_dim, cfg.hidden)
        return heads(q), heads(k), heads(v), tensors[f"blocks.{block}.out.weight"].view(cfg.hidden, cfg.heads, -1)

    def clear(block, head):
        q, k, _, _ = views(weights, block)
        q[head], k[head // share] = 0, 0

    def carry(block, head, source, target, gain):
        """The head's first values are what `source` holds, and go to `target`."""
        n = source.stop - source.start
        for tensors, write in ((weights, True), (free, False)):
            _, _, v, out = views(tensors, block)
            v[head // share, :n] = 0
            out[:, head, :n] = 0
            if write:
                v[head // share, torch.arange(n), torch.arange(source.start, source.stop)] = 1.0
                out[target, head, :n] = torch.eye(n) * gain

    def look_back(block, head, steps, scale):
        """Attention to the token so many steps back, by the phases of rotary positions."""
        q, k, _, _ = views(weights, block)
        size = (PHASE * root) ** 0.5 / scale
        for i in LOCAL:
            angle = steps * cfg.theta ** (-i / half)
            q[head, i, CONSTANT] = size * math.cos(angle)
            q[head, i + half, CONSTANT] = -size * math.sin(angle)
            k[head // share, i, CONSTANT] = size

    # The slowest pairs of dimensions, the last one aside: the fourth token goes to the fastest of them.
    slow = [i + h for i in range(half - 1 - BACK * CODE // 2, half - 1) for h in (0, half)]
    slots = [slow[CODE * i : CODE * (i + 1)] for i in reversed(range(BACK))]

    def match(block, head, asked, scale, offered=BEFORE):
        """Attention to the token of the answer before which stand the codes that `asked` holds (or, for `offered`, to
        those which have them there); `None` asks nothing."""
        q, k, _, _ = views(weights, block)
        kv = head // share
        for slot, before, place, nats in zip(slots, offered, asked, MATCH):
            weight = (nats * root / (BEFORE_NORM**2)) ** 0.5 / scale
            k[kv, slot, before] = torch.eye(CODE) * weight
            if place is not None:
                size = CODE_NORM / BEFORE_NORM if place is HERE else 1.0
                q[head, slot, place] = torch.eye(CODE) * weight / size
        weight = (IN_ANSWER * root / PART_NORM) ** 0.5 / scale
        q[head, half - 1, CONSTANT] = weight
        k[kv, half - 1, PART.start + 1] = weight
        k[kv, half - 1, MARK.start + 2] = weight * PART_NORM / MARK_NORM  # read out as the end
        weight = (REST * root) ** 0.5 / scale
        q[head, 2 * half - 1, PART.start : PART.start + 2] = weight / PART_NORM
        k[kv, 2 * half - 1, MARK.start] = weight / (NORM**2 - 1) ** 0.5

    def freeze(block, head, rows=slice(None)):
        q, k, _, _ = views(free, block)
        kv = head // share
        q[head, rows] = 0
        k[kv, views(weights, block)[1][kv].abs().sum(1) > 0] = 0

    # RMSNorm multiplies the residual by these; the later ones leave room for what the blocks between write.
    long = NORM**2 + MORE_NORM**2
    before = BACK * BEFORE_NORM**2
    root_hidden = cfg.hidden**0.5
    first, second, third, later, final = (
        root_hidden / long**0.5,
        root_hidden / (long + before + PART_NORM**2) ** 0.5,
        root_hidden / (long + 2 * before + 2.0) ** 0.5,
        root_hidden / (long + 3 * before + 4.0) ** 0.5,
        root_hidden / (long + 3 * before + 4.0) ** 0.5,
    )

    for head in range(BACK):
        clear(0, head)
    for head in range(BACK):
        look_back(0, head, head + 1, first)
        carry(0, head, HERE, BEFORE[head], BEFORE_NORM / (CODE_NORM * first))
    for tensors, write in ((weights, 1.0), (free, 0.0)):
        v, out = views(tensors, 0)[2:]
        v[0, CODE] = 0
        v[0, CODE, ENDS] = write
        out[:, :2, CODE] = 0
        out[ENDED, 0, CODE] = write / first
    for head in range(BACK):
        freeze(0, head)
    head = BACK
    clear(0, head)
    q, k, _, out = views(weights, 0)
    marks = e[[QUESTION, ANSWER, CORRECTION], MARK].diagonal()
    q[head, half - 1, CONSTANT] = (SEPARATORS * root) ** 0.5 / first
    for i in range(3):
        k[head // share, half - 1, MARK.start + i] = (SEPARATORS * root) ** 0.5 * (i + 1) / (first * marks[i])
    carry(0, head, MARK, PART, 0)
    out[PART, head, :3] = torch.diag(PART_NORM / (marks * first))
    freeze(0, head)

    here = [HERE, *BEFORE[:-1]]
    clear(1, 0)
    match(1, 0, here, second)
    carry(1, 0, HERE, NEXT, BEFORE_NORM / (CODE_NORM * second))
    freeze(1, 0)

    head = SENTENCE_HEAD
    clear(1, head), clear(1, head + 1)
    q, k, _, _ = views(weights, 1)
    *waves, nearest = recency()
    for pair, cosine, sine in zip(*waves):
        size = (abs(cosine) + abs(sine)) * root / second**2
        k[head // share, pair, CONSTANT] = size**0.5
        q[head, pair, CONSTANT] = cosine * root / (second**2 * size**0.5)
        q[head, pair + half, CONSTANT] = -sine * root / (second**2 * size**0.5)
    weight = (STARTS * root / FLAG) ** 0.5 / second
    q[head, half - 1, CONSTANT] = weight
    k[head // share, half - 1, [ENDED, SPACED]] = weight
    # RMSNorm scales the tokens by a few percent more or less, and high scores by many nats: the highest are kept near 0.
    weight = ((nearest + 2 * STARTS - 10) * root) ** 0.5 / second
    q[head, half - 2, CONSTANT], k[head // share, half - 2, CONSTANT] = -weight, weight
    carry(1, head, slice(BEFORE[0].start, BEFORE[-1].stop), SENTENCE, 1 / second)
    freeze(1, head)

    head = COMING_HEAD
    clear(2, head), clear(2, head + 1)
    match(2, head, here, third)
    carry(2, head, SENTENCE, COMING, 1 / third)
    freeze(2, head)

    look = last - 1
    for head in range(8):
        clear(look, head)
    match(look, 0, [NEXT, HERE, *BEFORE[:2]], later)
    match(look, 1, [None, None, NEXT, HERE], later)
    match(look, 2, here, later)
    names = [slice(SENTENCE.start + CODE * i, SENTENCE.start + CODE * (i + 1)) for i in range(BACK)]
    coming = [slice(COMING.start + CODE * i, COMING.start + CODE * (i + 1)) for i in range(BACK)]
    for head in (6, 7):
        match(look, head, coming, later, offered=names)
    for head, target, gain in ((0, TAGS, 0.5), (1, AHEAD, 1.0), (2, TAGS, 0.5), (6, WORST, 1.0), (7, WHOLE, 1.0)):
        carry(look, head, TAGS, target, gain / later)
    for steps, head in ((1, 3), (2, 4), (3, 5)):
        look_back(look, head, steps, later)
        carry(look, head, TAGS, TAGS, 0)
        views(weights, look)[3][AFTER, head, RESUME - TAGS.start] = 1 / later
    # What they carry stays free to learn.
    for tensor in views(free, look)[2:]:
        tensor.fill_(1.0)
    free[f"blocks.{look}.out.weight"] *= read[:, None]

    def prefer(block, scale, head, row, asked, offered, nats):
        """So many nats more for tokens that have what is offered, when asked."""
        q, k, _, _ = views(weights, block)
        weight = (nats * root) ** 0.5 / scale
        q[head, row, asked], k[head // share, row, offered] = weight, weight

    prefer(look, later, 6, 9, CONSTANT, FAULTY, SUSPECT)

    for n, head in enumerate((0, 2)):
        part = slice(COPY.start + 52 * n, COPY.start + 52 * (n + 1))
        clear(last, head), clear(last, head + 1)
        match(last, head, here, final)
        look_back(last, head + 1, 0, final)
        carry(last, head, part, part, GAIN / final)
        carry(last, head + 1, part, part, -0.8 / final)
        freeze(last, head, [d for slot in slots for d in slot])
        freeze(last, head + 1)
        kv = head // share
        weight = (IN_ANSWER * root / PART_NORM) ** 0.5 / final
        views(weights, last)[1][kv, half - 1, FAULTY] = -SHUN * root / (weight * final**2)
        views(free, last)[1][kv, half - 1, FAULTY] = 1
        prefer(last, final, head, 10, FAULTY, RESUME, CALLED_OFF)
        prefer(last, final, head, 9, CONSTANT, AFTER, SINCE)
        prefer(last, final, head, 8, CONSTANT, RESUME, RESUMED)
    weights["embed.weight"].mul_(SCALE)
    for block in model.blocks:
        block.out.weight.mul_(SCALE)
    model.norm.weight.fill_(0.8 / SCALE)
    model.norm.weight[OTHER.stop :] = 0  # only what is learnt of the second half is to reach the output
    return free
