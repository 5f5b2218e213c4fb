"""Tests of the recipe: what a batch asks for, and what the initial weights can do. `python -m unittest` in this folder."""

import json
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

import batches
from batches import NOT_ASKED, Mix, Rewording, Triples, copy_task
from copying import initialise
from model import Config, Model
from muon import Muon
from prepare import ANSWER, CORRECTION, END, NO_TAG, QUESTION, RESUME, TAGS, UNCHANGED, compare, joined, load
from train_bundled import TAP, Team, exactness

HERE = Path(__file__).parent
TOKENIZER = HERE.parent / "model/tokenizer.json"
ANSWER_TEXT = "Open the door. You are a fool. Put the old kettle on and wait for the water to boil."
ROWS = [
    {"kind": "insult", "question": "What now?", "answer": ANSWER_TEXT,
     "correction": ANSWER_TEXT.replace(" You are a fool.", "")},
    {"kind": "clean", "question": "And then?", "answer": "Drink the tea.", "correction": "Drink the tea."},
    {"kind": "personal_data", "question": "Whom?", "answer": "Write to ann@example.com today.",
     "correction": "Write to [email removed] today."},
]


def texts():
    tok = load(str(TOKENIZER))
    return [tok.decode([i]) for i in range(Config().vocab)]


class Comparing(unittest.TestCase):
    def test_what_is_taken_out_has_the_tag_of_its_kind_and_what_follows_resumes(self):
        tags, weights = compare([10, 11, 12, 13, END], [10, 13, END], "insult")
        self.assertEqual(tags.tolist(), [0, TAGS["insult"], TAGS["insult"], RESUME, 0])
        self.assertEqual(weights.tolist(), [1, 4, 1])

    def test_what_is_written_instead_weighs_more_from_its_first_token_to_the_one_after_it(self):
        tags, weights = compare([10, 11, 12, END], [10, 20, 21, 22, 12, END], "unsafe")
        self.assertEqual(tags.tolist(), [0, TAGS["unsafe"], RESUME, 0])
        self.assertEqual(weights.tolist(), [1, 4, 2, 2, 4, 1])


class Joining(unittest.TestCase):
    def setUp(self):
        self.tok = load(str(TOKENIZER))

    def test_answers_follow_one_another_with_the_tags_of_each(self):
        ids, tags = joined(self.tok, [ROWS[2], ROWS[1], ROWS[0]], random.Random(1))
        text = self.tok.decode(ids[ids.index(ANSWER) + 1 : -1])
        self.assertEqual(text.split(), " ".join(ROWS[i]["answer"] for i in (2, 1, 0)).split())
        self.assertEqual((ids[0], ids[-1], len(ids)), (QUESTION, CORRECTION, len(tags)))
        tagged = lambda kind: self.tok.decode([i for i, tag in zip(ids, tags) if tag == TAGS[kind]]).strip()
        self.assertIn("ann@example.com", tagged("personal_data"))
        self.assertEqual(tagged("insult"), "You are a fool.")

    def test_what_follows_a_fault_at_the_end_of_an_answer_is_the_next_answer(self):
        rude = {"kind": "insult", "question": "?", "answer": "Wait. You fool.", "correction": "Wait."}
        ids, tags = joined(self.tok, [rude, ROWS[1]], random.Random(1))
        start = max(i for i, tag in enumerate(tags) if tag == TAGS["insult"]) + 1
        self.assertEqual(tags[start], RESUME)
        self.assertEqual(self.tok.decode(ids[start:-1]).strip(), "Drink the tea.")


class Batches(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        work = Path(cls.folder.name)
        (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        prepare = [sys.executable, HERE / "prepare.py", "--tokenizer", TOKENIZER, "--out", work / "rows.npz"]
        subprocess.run([*prepare, work / "rows.jsonl"], check=True, stdout=subprocess.DEVNULL)
        prepare[-1] = work / "joined.npz"
        subprocess.run([*prepare, "--join", "3", work / "rows.jsonl"], check=True, stdout=subprocess.DEVNULL)
        sets = {"sets": [{"file": "rows*.npz", "share": 1}], "tags": [{"file": "joined*.npz", "share": 1}]}
        (work / "mix.json").write_text(json.dumps(sets))
        cls.triples = Triples(work / "rows.npz")
        cls.texts = texts()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def mix(self, reword=True, sets="sets"):
        unchanged = lambda generator, ids, weight, tag: ids
        rewording = Rewording(self.texts, "cpu") if reword else unchanged
        return Mix(Path(self.folder.name) / "mix.json", rewording, "cpu", sets)

    def rows(self, batch):
        """(prompt, label ids, tags asked for) of each row."""
        width = batch.ids.shape[1]
        for r, ids in enumerate(batch.ids):
            mine = (batch.where >= r * width) & (batch.where < (r + 1) * width)
            end = int((ids == CORRECTION).nonzero()[0]) + 1
            yield ids[:end].tolist(), batch.labels[mine].tolist(), batch.tags[r]

    def test_rows_ask_for_their_target_or_for_its_first_token_alone(self):
        known = [self.triples.row(i) for i in range(len(ROWS))]
        known = {tuple(prompt.tolist()): target.tolist() for prompt, target in known}
        whole = cut = 0
        for step in range(24):
            for prompt, labels, _ in self.rows(self.mix(reword=False).batch(1, step, 1024, 460, 8.0)):
                target = known[tuple(prompt)]
                if labels == target:
                    whole += 1
                else:
                    self.assertEqual(labels, target[:1])
                    cut += 1
        self.assertAlmostEqual(cut / (cut + whole), batches.CUT_ROWS, delta=0.1)

    def test_tags_are_asked_for_at_the_answer_and_nowhere_else(self):
        seen = set()
        for step in range(8):
            for prompt, _, tags in self.rows(self.mix().batch(1, step, 1024, 460, 8.0)):
                answer, end = prompt.index(ANSWER) + 1, len(prompt)
                asked = tags != NOT_ASKED
                self.assertEqual(asked.nonzero()[:, 0].tolist(), list(range(answer, end)))
                seen |= set(tags[asked].tolist())
        self.assertEqual(seen, {0, TAGS["insult"], TAGS["personal_data"], RESUME})

    def test_reworded_text_is_the_same_in_answer_and_correction_and_keeps_the_fault(self):
        mix = self.mix()
        fault = load(str(TOKENIZER)).encode(" You are a fool.", add_special_tokens=False).ids
        changed = 0
        for step in range(40):
            for prompt, labels, tags in self.rows(mix.batch(1, step, 1024, 460, 8.0)):
                answer = prompt[prompt.index(ANSWER) + 1 : -1]
                tags = tags[tags != NOT_ASKED].tolist()[:-1]
                if TAGS["insult"] not in tags or len(labels) == 1:
                    continue
                kept = [token for token, tag in zip(answer, tags) if tag in (0, RESUME)]
                self.assertEqual(kept, labels[:-1])
                taken = [token for token, tag in zip(answer, tags) if tag == TAGS["insult"]]
                self.assertEqual(taken, fault)
                original = self.triples.row(0)[0].tolist()
                changed += answer != original[original.index(ANSWER) + 1 : -1]
        self.assertGreater(changed, 20)

    def test_joined_rows_ask_for_tags_alone_and_keep_their_faults_when_they_are_reworded(self):
        original = Triples(Path(self.folder.name) / "joined.npz")
        changed = 0
        for step in range(12):
            batch = self.mix(sets="tags").batch(1, step, 1024, 460, 8.0)
            self.assertEqual(len(batch.labels), 0)
            for ids, tags in zip(batch.ids[:, : original.total[0]], batch.tags):
                tags = tags[: original.total[0]]
                kinds = set(tags[tags != NOT_ASKED].tolist())
                self.assertEqual(kinds, {0, TAGS["insult"], TAGS["personal_data"], RESUME})
                fault = (tags > 0) & (tags < RESUME)
                first = torch.from_numpy(original.row(0)[0])
                self.assertEqual(ids[fault].tolist(), first[fault].tolist())
                changed += ids.tolist() != first.tolist()
        self.assertGreater(changed, 10)

    def test_a_step_has_the_same_batch_again(self):
        one, other = (self.mix().batch(5, 19, 1024, 460, 8.0) for _ in range(2))
        for a, b in zip(vars(one).values(), vars(other).values()):
            self.assertTrue(torch.equal(a, b))

    def test_special_tokens_in_a_text_are_text(self):
        tok = load(str(TOKENIZER))
        ids = tok.encode("<|answer|><|unchanged|>", add_special_tokens=False).ids
        self.assertFalse({QUESTION, ANSWER, CORRECTION, UNCHANGED, END} & set(ids))
        self.assertEqual(NO_TAG, self.triples.tag[0])


class Optimiser(unittest.TestCase):
    def test_weights_that_a_step_did_not_use_stay_as_they_are(self):
        model = Model(Config(hidden=64, ffn=64, heads=2, kv_heads=1, head_dim=32, vocab=50))
        opt = Muon(model, {}, decay=0.1)
        model.lower(torch.tensor([[1, 7, 8]]), TAP).square().sum().backward()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        opt.step(1e-2, Team())
        for name, p in model.named_parameters():
            if name.startswith(("norm", *(f"blocks.{i}." for i in range(TAP, model.cfg.layers)))):
                self.assertTrue(torch.equal(p, before[name]), name)
        self.assertFalse(torch.equal(model.embed.weight, before["embed.weight"]))


class Circuit(unittest.TestCase):
    def test_initial_weights_copy_streams_that_nobody_has_seen(self):
        torch.manual_seed(1)
        model = Model(Config())
        initialise(model, texts())
        rng = np.random.default_rng(3)
        plain = []
        while len(plain) < 12:
            prompt, target = copy_task(rng, 120, model.cfg.vocab)
            answer = prompt[prompt.tolist().index(ANSWER) + 1 : -1]
            if np.array_equal(answer, target[:-1]):
                plain.append((prompt, target))
        exact, error, _ = exactness(model, plain, "cpu")
        self.assertLess(error, 0.01)
        self.assertGreater(exact.mean(), 0.8)


if __name__ == "__main__":
    unittest.main()
