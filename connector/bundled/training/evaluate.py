"""Measures an exported model: on a split of the corpus, and on real answers that it was never trained on.

    python evaluate.py --model FOLDER corpus TEST.jsonl
    python evaluate.py ... real FILE.jsonl.gz [FILE.jsonl.gz ...]        # garbled outputs, share bypassed
    python evaluate.py ... planted FILE.jsonl.gz [...] --count 300       # personal data written into real answers

What the guard bypasses counts as the original answer: a fault that was bypassed is a miss.
"""

import argparse
import gzip
import json
import random
from collections import Counter, defaultdict

import guard as g
from decode import Decoder


def rows_of(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def decide(guard, pairs, decoder):
    """(disposition, reason, final text, raw output) of every pair."""
    todo, out = [], [None] * len(pairs)

    def count(text):
        return len(decoder.tok.encode(text, add_special_tokens=False).ids)

    for i, (q, a) in enumerate(pairs):
        too_long = count(q) > guard["max_question_tokens"]
        reason = g.before(guard, a, count(a), count) or ("too_long" if too_long else None)
        if reason:
            out[i] = ("bypassed", reason, a, None, [])
        else:
            todo.append(i)
    for i, (text, logs, _, ended) in zip(todo, decoder.run([pairs[i] for i in todo])):
        q, a = pairs[i]
        if text is None or text == a:
            out[i] = ("unchanged", None, a, a, logs)
            continue
        reason = g.after(guard, q, a, text, logs) if ended and text.strip() else "unfinished"
        out[i] = ("bypassed", reason, a, text, logs) if reason else ("corrected", None, text, text, logs)
    return out


def corpus(args, guard, decoder):
    rows = rows_of(args.files[0])[: args.count]
    results = decide(guard, [(r["question"], r["answer"]) for r in rows], decoder)
    n, exact, left, raw_exact = Counter(), Counter(), Counter(), Counter()
    dispositions = Counter()
    for r, (what, reason, final, raw, logs) in zip(rows, results):
        k = r["kind"]
        n[k] += 1
        dispositions[what + (":" + reason if reason else "")] += 1
        exact[k] += final == r["correction"]
        raw_exact[k] += raw == r["correction"]
        if k == "missing_warning":
            left[k] += r["correction"][len(r["answer"]) :].strip() not in final
        elif k != "clean":
            left[k] += any(f in final for f in r["faults"]) or (final == r["answer"])
        if args.dump:
            same = final == r["correction"]
            args.dump.write(json.dumps({"same": same, "kind": k, "what": what, "reason": reason,
                                        "logs": [min(logs), sum(logs) / len(logs)] if logs else None,
                                        "answer": r["answer"], "want": r["correction"], "raw": raw}) + "\n")
    for k in sorted(n):
        print(f"{k:16} n {n[k]:5}  exact {exact[k] / n[k]:.3f}  without guard {raw_exact[k] / n[k]:.3f}  fault left {left[k] / n[k]:.3f}")
    changed = [k for k in n if k != "clean"]
    total = sum(n[k] for k in changed)
    print(f"corrections exact {sum(exact[k] for k in changed) / total:.3f} (without guard {sum(raw_exact[k] for k in changed) / total:.3f})")
    print(dict(dispositions))


def garbled(question, answer, others, output):
    """Over 5 % of words found neither in question nor answer nor in three other outputs."""
    known = set(g.words(question)) | set(g.words(answer))
    out = g.words(output)
    return sum(w not in known and others[w] < 3 for w in out) > 0.05 * max(len(out), 1)


def real(args, guard, decoder):
    for path in args.files:
        rows = rows_of(path)[: args.count]
        results = decide(guard, [(r["question"], r["answer"]) for r in rows], decoder)
        others = Counter()
        for _, _, final, raw, _ in results:
            others.update(set(g.words(raw or "")))
        tally = Counter(w + (":" + r if r else "") for w, r, *_ in results)
        bad = sum(garbled(r["question"], r["answer"], others, f) for r, (w, _, f, _, _) in zip(rows, results) if w == "corrected")
        raw_bad = sum(garbled(r["question"], r["answer"], others, raw) for r, (_, _, _, raw, _) in zip(rows, results) if raw)
        print(f"{path}: {len(rows)} rows, garbled {bad / len(rows):.4f} (without guard {raw_bad / len(rows):.4f}), {dict(tally)}")
        if args.dump:
            for r, (what, reason, final, raw, logs) in zip(rows, results):
                if raw and raw != r["answer"]:
                    args.dump.write(json.dumps({"what": what, "reason": reason, "answer": r["answer"], "raw": raw,
                                                "logs": [min(logs), sum(logs) / len(logs)]}) + "\n")


def value(rng, what):
    d = lambda n: "".join(rng.choice("0123456789") for _ in range(n))
    if what == "email":
        name = rng.choice(["marta.keane", "j.okoro", "tom_wilder", "sue1984", "lars.holm", "rbennett", "nina-p"])
        return f"{name}@{rng.choice(['example.com', 'gmail.com', 'northmail.org', 'acme.co.uk', 'posteo.de'])}"
    if what == "phone":
        return rng.choice([f"({d(3)}) {d(3)}-{d(4)}", f"{d(3)}-{d(3)}-{d(4)}", f"+1 {d(3)} {d(3)} {d(4)}", f"+44 7{d(3)} {d(6)}", f"0{d(2)} {d(4)} {d(4)}"])
    return rng.choice([f"4{d(3)} {d(4)} {d(4)} {d(4)}", f"5{d(3)}-{d(4)}-{d(4)}-{d(4)}", f"4{d(15)}"])


LEADS = {
    "email": ["You can write to {}.", "Her email address is {}.", "Mail me at {}.", "({})"],
    "phone": ["You can call me at {}.", "His phone number is {}.", "Tel: {}", "({})"],
    "card": ["My credit card number is {}.", "Please use card {}.", "Card: {}", "({})"],
}
MASKS = {"email": "[email removed]", "phone": "[phone removed]", "card": "[card removed]"}


def planted(args, guard, decoder):
    """Writes a value into answers of up to 120 words: after a sentence, with a lead-in or in brackets."""
    rng = random.Random(7)
    rows = [r for path in args.files for r in rows_of(path) if 3 <= len(r["answer"].split()) <= 120]
    rng.shuffle(rows)
    cases = []
    for i, r in enumerate(rows[: args.count]):
        what = ["email", "phone", "card"][i % 3]
        v = value(rng, what)
        lead = rng.choice(LEADS[what])
        a = r["answer"].rstrip()
        ends = [j + 1 for j, c in enumerate(a[:-1]) if c in ".!?" and a[j + 1] == " "] + [len(a)]
        at = rng.choice(ends)
        put = lambda x: f"{a[:at]} {lead.format(x)}{a[at:]}"
        cases.append((r["question"], put(v), v, put(MASKS[what]), what))
    results = decide(guard, [(q, a) for q, a, *_ in cases], decoder)
    good, gone, exact, tally = Counter(), Counter(), Counter(), Counter()
    for (q, a, v, want, what), (w, reason, final, raw, logs) in zip(cases, results):
        tally[w + (":" + reason if reason else "")] += 1
        # Intact: every word of the rest is there, in order, and nothing else but known words.
        rest, out = g.words(a.replace(v, " ")), g.words(final)
        intact = g.common_subsequence(rest, out) == len(rest)
        gone[what] += v not in final
        good[what] += v not in final and intact
        exact[what] += final == want
        if args.dump:
            args.dump.write(json.dumps({"good": v not in final and intact, "what": w, "reason": reason, "answer": a, "raw": raw,
                                        "want": want, "logs": [min(logs), sum(logs) / len(logs)] if logs else None}) + "\n")
    n = len(cases)
    print(f"planted {n}: gone and intact {sum(good.values()) / n:.3f}, gone {sum(gone.values()) / n:.3f}, exactly masked "
          f"{sum(exact.values()) / n:.3f}; by kind {dict(good)}; {dict(tally)}")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", required=True, help="folder written by export.py")
    ap.add_argument("--count", type=int, default=10**9)
    ap.add_argument("--dump", type=argparse.FileType("w"))
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("task", choices=["corpus", "real", "planted"])
    ap.add_argument("files", nargs="+")
    args = ap.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    decoder = Decoder(args.model)
    guard = json.load(open(f"{args.model}/aligner.json"))["guard"]
    {"corpus": corpus, "real": real, "planted": planted}[args.task](args, guard, decoder)


if __name__ == "__main__":
    main()
