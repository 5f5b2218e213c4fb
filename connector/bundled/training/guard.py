"""The competence guard, in reference form: it chooses between what the model decoded and the original answer.

It never edits text. Every measure is pure, cheap and defined here exactly; the profile (`aligner.json`) holds the
thresholds. A bypass names its reason: too_long, unfamiliar_text, length_ratio, inconsistent_copy, low_confidence.
"""

import re
import string

WORD = re.compile(r"\w+", re.UNICODE)


def words(text):
    """Maximal runs of letters, digits and underscores (Unicode `\\w`), in lower case."""
    return [w.lower() for w in WORD.findall(text)]


def common_subsequence(a, b):
    """Length of the longest common subsequence of two word lists."""
    row = [0] * (len(b) + 1)
    for x in a:
        previous = 0
        for j, y in enumerate(b, 1):
            keep = row[j]
            row[j] = previous + 1 if x == y else max(row[j], row[j - 1])
            previous = keep
    return row[-1]


def before(guard, answer, answer_tokens, count):
    """Reason to bypass before anything is decoded, or None. `count` counts the tokens of a text."""
    if answer_tokens > guard["max_answer_tokens"]:
        return "too_long"
    if is_unfamiliar(guard, answer, answer_tokens):
        rest = without_long_pieces(answer)
        if rest is None or is_unfamiliar(guard, rest, count(rest)):
            return "unfamiliar_text"
    return None


def is_unfamiliar(guard, text, tokens):
    return tokens > guard["max_tokens_per_word"] * max(len(text.split()), 1) + 8


LONG_PIECE = re.compile(
    r"(?=.*[0-9@])(?!www\.)[-A-Za-z0-9_.+/@]{16,}"  # a key, a number or an address
    r"|(?=(?:[^0-9]*[0-9]){7})[-0-9./]+",  # a number, in groups or not
    re.ASCII,
)


def without_long_pieces(answer):
    """An answer without its keys, long numbers and e-mail addresses, or None if it has none."""
    words = answer.split()
    rest = [w for w in words if not LONG_PIECE.fullmatch(w.strip(string.punctuation))]
    return " ".join(rest) if len(rest) < len(words) else None


def pieces(text):
    """What stands between white spaces, without the ASCII punctuation around it."""
    return [p for p in (p.strip(string.punctuation) for p in text.split()) if p]


def cut_pieces(guard, answer, output):
    """How many pieces of the output are a part of a piece of the answer that was to be copied or left out as a whole: of
    an address, a number, an emoji."""
    whole, known = set(pieces(answer)), set(guard["known_words"])
    compound = [p for p in whole if not p.isalnum()]
    return sum(
        p not in whole and p.lower() not in known and any(p in c for c in compound) for p in pieces(output)
    )


def novel_words(guard, question, answer, output):
    """Share of the output's words found neither in question nor answer nor among the known words, with pieces cut."""
    found = words(output)
    known = set(words(question)) | set(words(answer)) | set(guard["known_words"])
    novel = sum(w not in known for w in found) + cut_pieces(guard, answer, output)
    return novel / max(len(found), 1)


def displaced_words(guard, answer, output):
    """Share of the output's words that are not in the answer at their place: what the longest common subsequence of
    answer and output leaves over, both without the known words."""
    known = set(guard["known_words"])
    a, o = ([w for w in words(text) if w not in known] for text in (answer, output))
    return (len(o) - common_subsequence(a, o)) / max(len(words(output)), 1)


def after(guard, question, answer, output, logprobs):
    """Reason to bypass a decoded correction, or None. `logprobs`: natural logarithms, of every decoded token with the
    end token."""
    ratio = len(output) / max(len(answer), 1)
    if not guard["min_length_ratio"] <= ratio <= guard["max_length_ratio"] + 220 / max(len(answer), 1):
        return "length_ratio"
    if novel_words(guard, question, answer, output) > guard["max_novel_words"]:
        return "inconsistent_copy"
    if displaced_words(guard, answer, output) > guard["max_displaced_words"]:
        return "inconsistent_copy"
    if min(logprobs) < guard["min_token_logprob"] or sum(logprobs) / len(logprobs) < guard["min_mean_logprob"]:
        return "low_confidence"
    return None
