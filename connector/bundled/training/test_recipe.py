"""Tests of the recipe: what a batch asks for, and what the initial weights can do. `python -m unittest` in this folder."""

import json
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
from prepare import ANSWER, CORRECTION, END, NO_TAG, QUESTION, RESUME, TAGS, UNCHANGED, compare, load
from train_bundled import exactness

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


class Batches(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        work = Path(cls.folder.name)
        (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        prepare = [sys.executable, HERE / "prepare.py", "--tokenizer", TOKENIZER, "--out", work / "rows.npz"]
        subprocess.run([*prepare, work / "rows.jsonl"], check=True, stdout=subprocess.DEVNULL)
        (work / "mix.json").write_text('{"sets": [{"file": "rows*.npz", "share": 1}]}')
        cls.triples = Triples(work / "rows.npz")
        cls.texts = texts()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def mix(self, reword=True):
        unchanged = lambda generator, ids, weight, tag: ids
        rewording = Rewording(self.texts, "cpu") if reword else unchanged
        return Mix(Path(self.folder.name) / "mix.json", rewording, "cpu")

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

    def test_a_step_has_the_same_batch_again(self):
        one, other = (self.mix().batch(5, 19, 1024, 460, 8.0) for _ in range(2))
        for a, b in zip(vars(one).values(), vars(other).values()):
            self.assertTrue(torch.equal(a, b))

    def test_special_tokens_in_a_text_are_text(self):
        tok = load(str(TOKENIZER))
        ids = tok.encode("<|answer|><|unchanged|>", add_special_tokens=False).ids
        self.assertFalse({QUESTION, ANSWER, CORRECTION, UNCHANGED, END} & set(ids))
        self.assertEqual(NO_TAG, self.triples.tag[0])


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
