//! Which rows the next step computes: continuous batching under a budget of tokens and pages.
//!
//! There are no phases. Each sequence has tokens that are known and tokens that are computed, and
//! every step moves the second towards the first: by a chunk of the prompt, by one token, or by
//! one token and drafts. Sequences are served longest waiting first, then by arrival; the first in
//! line is never overtaken, so nobody starves. When pages run out, the last in line gives its up
//! and queues again: its tokens stay known, and on a CPU computing them again gives the
//! same bytes.
//!
//! Only numbers here: no tensors, no texts, no clock.

use std::collections::BTreeMap;

use crate::{backend::PAGE_TOKENS, pages::PagePool};

/// Number of a request within its worker.
pub(crate) type Id = u64;

/// What a step may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Most rows of a step.
    pub(crate) step_tokens: usize,
    /// Most sequences at a time.
    pub(crate) running: usize,
    /// Pages of the worker.
    pub(crate) pages: usize,
}

/// Since when it waits, in whatever unit the caller counts, then arrival.
type Order = (u64, Id);

/// A sequence in the queue.
#[derive(Debug)]
struct Waiting {
    /// Tokens that are known.
    tokens: Vec<u32>,
    expected_output: usize,
    most_tokens: usize,
}

/// A sequence that holds pages.
#[derive(Debug)]
struct Running {
    order: Order,
    tokens: Vec<u32>,
    computed: usize,
    pages: Vec<u32>,
    /// Pages that are findable, and the content number of the last of them.
    published: (usize, u64),
    expected_pages: usize,
    expected_output: usize,
    most_tokens: usize,
}

/// Rows of one sequence in the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) id: Id,
    pub(crate) start: usize,
    /// Rows of known tokens.
    pub(crate) rows: usize,
    /// Rows of drafts after them.
    pub(crate) drafts: usize,
    /// Whether the last known token is among the rows, so that the next one follows.
    pub(crate) decodes: bool,
}

/// Queue, running sequences, and pages of one worker.
#[derive(Debug)]
pub(crate) struct Scheduler {
    budget: Budget,
    waiting: BTreeMap<Order, Waiting>,
    /// In order.
    running: Vec<Running>,
    pool: PagePool,
}

impl Scheduler {
    pub(crate) fn new(budget: Budget) -> Self {
        let running = budget.running.min(budget.step_tokens).max(1);
        Self {
            budget: Budget {
                running,
                step_tokens: budget.step_tokens.max(1),
                ..budget
            },
            waiting: BTreeMap::new(),
            running: Vec::with_capacity(running),
            pool: PagePool::new(budget.pages),
        }
    }

    /// Whether a sequence of so many tokens can ever run.
    pub(crate) fn fits(&self, tokens: usize) -> bool {
        tokens.div_ceil(PAGE_TOKENS) <= self.pool.total()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// How many sequences more there are places for once those in the queue have theirs.
    pub(crate) fn places(&self) -> usize {
        let taken = self.running.len() + self.waiting.len();
        self.budget.running.saturating_sub(taken)
    }

    /// Queues a prompt. `most_tokens` bounds prompt and output together and must [fit](Self::fits).
    pub(crate) fn submit(
        &mut self,
        id: Id,
        waiting_since: u64,
        prompt: Vec<u32>,
        expected_output: usize,
        most_tokens: usize,
    ) {
        debug_assert!(!prompt.is_empty() && self.fits(most_tokens));
        let mut tokens = prompt;
        tokens.reserve_exact(most_tokens.saturating_sub(tokens.len()));
        self.waiting.insert(
            (waiting_since, id),
            Waiting {
                tokens,
                expected_output,
                most_tokens,
            },
        );
    }

    /// The tokens of a running sequence that are known.
    pub(crate) fn tokens(&self, id: Id) -> &[u32] {
        &self.running[self.find(id)].tokens
    }

    /// The pages of a running sequence.
    pub(crate) fn pages(&self, id: Id) -> &[u32] {
        &self.running[self.find(id)].pages
    }

    /// Plans the next step, without drafts.
    pub(crate) fn plan(&mut self, plan: &mut Vec<Planned>) {
        plan.clear();
        self.admit();
        let decoding = self
            .running
            .iter()
            .filter(|running| running.pending() == 1)
            .count();
        let mut prompt_budget = self.budget.step_tokens.saturating_sub(decoding);
        let mut left = self.budget.step_tokens;
        let mut index = 0;
        while index < self.running.len() {
            let running = &self.running[index];
            let pending = running.pending();
            let rows = if pending == 1 {
                1
            } else {
                pending.min(prompt_budget)
            }
            .min(left);
            if rows == 0 || !self.make_room(index, rows) {
                index += 1;
                continue;
            }
            let running = &self.running[index];
            if pending > 1 {
                prompt_budget -= rows;
            }
            left -= rows;
            plan.push(Planned {
                id: running.order.1,
                start: running.computed,
                rows,
                drafts: 0,
                decodes: rows == pending,
            });
            index += 1;
        }
    }

    /// Gives what is left of the budget to drafts, where free pages allow. `drafts` says how many
    /// rows a decoding sequence would like, at most the number it is given.
    pub(crate) fn plan_drafts(
        &mut self,
        plan: &mut [Planned],
        mut drafts: impl FnMut(Id, &[u32], usize) -> usize,
    ) {
        let rows: usize = plan.iter().map(|planned| planned.rows).sum();
        let mut left = self.budget.step_tokens - rows;
        for planned in plan.iter_mut().filter(|planned| planned.decodes) {
            if left == 0 {
                break;
            }
            let index = self.find(planned.id);
            let running = &mut self.running[index];
            let end = running.tokens.len();
            // The last token that may be decoded needs no row of its own.
            let room = running.most_tokens.saturating_sub(end + 1);
            let free = running.pages.len() * PAGE_TOKENS - end + self.pool.free() * PAGE_TOKENS;
            let most = left.min(room).min(free);
            let wanted = if most == 0 {
                0
            } else {
                drafts(planned.id, &running.tokens, most)
            };
            let wanted = wanted.min(most);
            while running.pages.len() * PAGE_TOKENS < end + wanted {
                running.pages.push(self.pool.take().expect("counted above"));
            }
            planned.drafts = wanted;
            left -= wanted;
        }
    }

    /// Moves the first in line into the batch while there is room.
    fn admit(&mut self) {
        while self.running.len() < self.budget.running {
            let Some((&order, next)) = self.waiting.first_key_value() else {
                break;
            };
            let expected = (next.tokens.len() + next.expected_output).min(next.most_tokens);
            let expected_pages = expected.div_ceil(PAGE_TOKENS).min(self.pool.total());
            let promised: usize = self
                .running
                .iter()
                .map(|running| running.expected_pages.saturating_sub(running.pages.len()))
                .sum();
            if !self.running.is_empty() && self.pool.free() < promised + expected_pages {
                break;
            }
            let (_, next) = self.waiting.pop_first().expect("looked at above");
            let mut pages = Vec::with_capacity(next.most_tokens.div_ceil(PAGE_TOKENS));
            // At least one token must be computed to have something to decode from.
            let parent = self
                .pool
                .share(&next.tokens[..next.tokens.len() - 1], &mut pages);
            let place = self
                .running
                .partition_point(|running| running.order < order);
            let running = Running {
                order,
                computed: pages.len() * PAGE_TOKENS,
                published: (pages.len(), parent),
                tokens: next.tokens,
                pages,
                expected_pages,
                expected_output: next.expected_output,
                most_tokens: next.most_tokens,
            };
            self.running.insert(place, running);
        }
    }

    /// Makes sure that the sequence at `index` has pages for `rows` more rows; preempts from the
    /// end of the line. False if it was itself the end of the line.
    fn make_room(&mut self, index: usize, rows: usize) -> bool {
        loop {
            let running = &mut self.running[index];
            let needed = (running.computed + rows).div_ceil(PAGE_TOKENS);
            if running.pages.len() >= needed {
                return true;
            }
            if let Some(page) = self.pool.take() {
                running.pages.push(page);
                continue;
            }
            let last = self.running.len() - 1;
            self.preempt(last);
            if last == index {
                return false;
            }
        }
    }

    fn preempt(&mut self, index: usize) {
        let running = self.running.remove(index);
        self.release(&running.pages);
        let waiting = Waiting {
            tokens: running.tokens,
            expected_output: running.expected_output,
            most_tokens: running.most_tokens,
        };
        self.waiting.insert(running.order, waiting);
    }

    /// Notes what a step computed: `rows` rows of the sequence are kept, and `decoded` follow.
    pub(crate) fn advance(&mut self, id: Id, rows: usize, decoded: &[u32]) {
        let index = self.find(id);
        let running = &mut self.running[index];
        running.tokens.extend_from_slice(decoded);
        running.computed += rows;
        debug_assert!(running.computed < running.tokens.len() || decoded.is_empty());
        while (running.published.0 + 1) * PAGE_TOKENS <= running.computed {
            let (count, parent) = running.published;
            let tokens = &running.tokens[count * PAGE_TOKENS..][..PAGE_TOKENS];
            let tokens = tokens.try_into().expect("a page of tokens");
            let content = self.pool.publish(running.pages[count], parent, tokens);
            running.published = (count + 1, content);
        }
        // Rows of rejected drafts are overwritten; pages beyond the next row go back.
        let keep = (running.computed + 1).div_ceil(PAGE_TOKENS);
        while running.pages.len() > keep {
            let page = running.pages.pop().expect("longer than what is kept");
            self.pool.release(page);
        }
    }

    /// Removes a sequence, running or waiting; returns its known tokens.
    pub(crate) fn finish(&mut self, id: Id) -> Option<Vec<u32>> {
        if let Some(index) = self
            .running
            .iter()
            .position(|running| running.order.1 == id)
        {
            let running = self.running.remove(index);
            self.release(&running.pages);
            return Some(running.tokens);
        }
        let order = *self.waiting.keys().find(|order| order.1 == id)?;
        self.waiting.remove(&order).map(|waiting| waiting.tokens)
    }

    /// Removes everything that was running: after a failed step.
    pub(crate) fn abandon_running(&mut self) -> Vec<Id> {
        self.pool.forget();
        let running = std::mem::take(&mut self.running);
        running
            .into_iter()
            .map(|running| {
                self.release(&running.pages);
                running.order.1
            })
            .collect()
    }

    /// The last page is freed first, so that the beginning of a sequence is found longest.
    fn release(&mut self, pages: &[u32]) {
        pages.iter().rev().for_each(|&page| self.pool.release(page));
    }

    fn find(&self, id: Id) -> usize {
        self.running
            .iter()
            .position(|running| running.order.1 == id)
            .expect("the worker asks only about planned sequences")
    }
}

impl Running {
    fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scheduler(step_tokens: usize, running: usize, pages: usize) -> Scheduler {
        Scheduler::new(Budget {
            step_tokens,
            running,
            pages,
        })
    }

    fn prompt(id: u32, len: usize) -> Vec<u32> {
        (0..len as u32).map(|i| 1000 * id + i).collect()
    }

    fn planned(scheduler: &mut Scheduler) -> Vec<(Id, usize, usize, bool)> {
        let mut plan = Vec::new();
        scheduler.plan(&mut plan);
        plan.iter()
            .map(|row| (row.id, row.start, row.rows, row.decodes))
            .collect()
    }

    /// Computes a planned step, decoding token 7 wherever one follows.
    fn step(scheduler: &mut Scheduler) -> Vec<(Id, usize, usize, bool)> {
        let plan = planned(scheduler);
        for &(id, _, rows, decodes) in &plan {
            scheduler.advance(id, rows, if decodes { &[7] } else { &[] });
        }
        plan
    }

    #[test]
    fn prompts_are_chunked_beside_decoding_sequences() {
        let mut s = scheduler(8, 4, 100);
        s.submit(1, 0, prompt(1, 3), 4, 20);
        assert_eq!(step(&mut s), [(1, 0, 3, true)]);
        s.submit(2, 0, prompt(2, 12), 4, 20);
        assert_eq!(step(&mut s), [(1, 3, 1, true), (2, 0, 7, false)]);
        assert_eq!(step(&mut s), [(1, 4, 1, true), (2, 7, 5, true)]);
        assert_eq!(step(&mut s), [(1, 5, 1, true), (2, 12, 1, true)]);
        assert_eq!(s.finish(1).expect("known").len(), 7);
        assert_eq!(step(&mut s), [(2, 13, 1, true)]);
    }

    #[test]
    fn the_longest_waiting_goes_first_and_is_not_overtaken() {
        let mut s = scheduler(64, 1, 100);
        s.submit(1, 50, prompt(1, 4), 4, 20);
        s.submit(2, 10, prompt(2, 4), 4, 20);
        s.submit(3, 10, prompt(3, 4), 4, 20);
        for expected in [2, 3, 1] {
            assert_eq!(step(&mut s)[0].0, expected);
            s.finish(expected);
        }
        assert!(s.is_idle());
    }

    #[test]
    fn the_last_in_line_is_preempted_when_pages_run_out_and_comes_back() {
        let mut s = scheduler(64, 2, 3);
        // Each will need two pages, but expects one.
        s.submit(1, 0, prompt(1, 15), 1, 32);
        s.submit(2, 0, prompt(2, 15), 1, 32);
        assert_eq!(step(&mut s).len(), 2);
        assert_eq!(step(&mut s).len(), 2);
        // Both are at 16 computed tokens; one free page is left.
        assert_eq!(step(&mut s), [(1, 16, 1, true)]);
        assert_eq!((s.waiting.len(), s.places()), (1, 0));
        s.finish(1);
        // Its first page was still there, so only the rest is computed again.
        assert_eq!(step(&mut s), [(2, 16, 1, true)]);
    }

    #[test]
    fn sequences_that_begin_alike_share_pages() {
        let mut s = scheduler(64, 8, 100);
        s.submit(1, 0, prompt(1, 40), 4, 60);
        step(&mut s);
        let mut same = prompt(1, 33);
        same.extend([9, 9]);
        s.submit(2, 0, same, 4, 60);
        assert_eq!(planned(&mut s)[1], (2, 32, 3, true));
        assert_eq!(s.pages(1)[..2], s.pages(2)[..2]);
        // A whole prompt that is known is still computed at its last token.
        s.submit(3, 0, prompt(1, 32), 4, 60);
        assert_eq!(planned(&mut s)[2], (3, 16, 16, true));
    }

    #[test]
    fn drafts_use_what_is_left_and_rejected_ones_give_their_pages_back() {
        let mut s = scheduler(40, 2, 8);
        s.submit(1, 0, prompt(1, 14), 8, 100);
        step(&mut s);
        let before = s.pool.free();
        let mut plan = Vec::new();
        s.plan(&mut plan);
        s.plan_drafts(&mut plan, |_, tokens, most| {
            assert_eq!((tokens.len(), most), (15, 39));
            30
        });
        assert_eq!((plan[0].rows, plan[0].drafts), (1, 30));
        assert_eq!(s.pages(1).len(), 3);
        s.advance(1, 3, &[1, 2, 3]);
        assert_eq!(s.tokens(1).len(), 18);
        assert_eq!(s.pool.free(), before - 1);
    }

    #[test]
    fn after_a_failed_step_nothing_old_is_found() {
        let mut s = scheduler(64, 2, 8);
        s.submit(1, 0, prompt(1, 40), 8, 60);
        step(&mut s);
        assert_eq!(s.abandon_running(), [1]);
        assert_eq!(s.pool.free(), 8);
        s.submit(2, 0, prompt(1, 40), 8, 60);
        assert_eq!(step(&mut s), [(2, 0, 40, true)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn every_request_is_served_within_budget_and_no_page_is_lost(
            step_tokens in 1_usize..40,
            running in 1_usize..6,
            pages in 6_usize..12,
            requests in prop::collection::vec(
                (1_usize..60, 1_usize..30, 0_usize..40, 0_u64..3, 0_u32..3), 1..14,
            ),
            draft in 0_usize..5,
        ) {
            let mut s = scheduler(step_tokens, running, pages);
            let mut wanted: BTreeMap<Id, usize> = BTreeMap::new();
            for (id, &(len, output, expected, since, kind)) in requests.iter().enumerate() {
                let id = id as Id;
                prop_assert!(s.fits(len + output));
                s.submit(id, since, prompt(kind, len), expected, len + output);
                wanted.insert(id, len + output);
            }
            let mut plan = Vec::new();
            // Each step computes at least one row; recomputation after preemption is bounded too.
            for _ in 0..20_000 {
                if s.is_idle() { break }
                s.plan(&mut plan);
                s.plan_drafts(&mut plan, |_, _, most| draft.min(most));
                prop_assert!(!plan.is_empty(), "a step makes progress");
                let rows: usize = plan.iter().map(|row| row.rows + row.drafts).sum();
                prop_assert!(rows <= step_tokens);
                prop_assert!(plan.len() <= running);
                let mut writable = std::collections::HashSet::new();
                for row in &plan {
                    let pages = s.pages(row.id);
                    let end = row.start + row.rows + row.drafts;
                    prop_assert!(pages.len() * PAGE_TOKENS >= end);
                    for page in &pages[row.start / PAGE_TOKENS..end.div_ceil(PAGE_TOKENS)] {
                        prop_assert!(writable.insert(*page), "a page is written by one sequence");
                    }
                }
                for row in &plan.clone() {
                    let known = s.tokens(row.id).len();
                    if !row.decodes {
                        s.advance(row.id, row.rows, &[]);
                        continue;
                    }
                    // Some drafts are accepted.
                    let accepted = row.drafts.min(known % 3);
                    let decoded: Vec<u32> = (0..=accepted).map(|i| i as u32).collect();
                    s.advance(row.id, row.rows + accepted, &decoded);
                    if s.tokens(row.id).len() >= wanted[&row.id] {
                        let tokens = s.finish(row.id).expect("running");
                        let len = requests[row.id as usize].0;
                        let kind = requests[row.id as usize].4;
                        prop_assert_eq!(&tokens[..len], &prompt(kind, len)[..]);
                        wanted.remove(&row.id);
                    }
                }
            }
            prop_assert!(wanted.is_empty(), "every request is finished");
            prop_assert_eq!(s.pool.free(), s.pool.total());
        }
    }
}
