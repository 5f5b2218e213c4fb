//! Pages of the key-value store: who holds which, and which still hold something worth finding.
//!
//! A page of computed tokens is immutable, so sequences that begin alike share it: the template's
//! head, a question asked about several answers, a sequence that was preempted and comes back. A
//! page is found by its exact tokens and the page before it; no hash is trusted alone. Freed
//! pages keep their contents until the space is needed. So in the end all memory of the store is in
//! use; but a page that holds nothing worth finding is used again before a fresh one is.
//!
//! Only numbers here; the store itself belongs to the backend.

use std::collections::{HashMap, VecDeque};

use crate::backend::PAGE_TOKENS;

/// Tokens of one page.
type Tokens = [u32; PAGE_TOKENS];

/// What a page holds: its tokens, after everything that its parent stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Content {
    parent: u64,
    tokens: Tokens,
}

#[derive(Debug, Clone, Default)]
struct Page {
    holders: u32,
    /// Number of its content, if it can be found; numbers are never used again.
    content: Option<(u64, Content)>,
    /// Counts how often it was queued as kept, to tell stale entries of the queue.
    freed: u32,
}

/// All pages of one worker.
#[derive(Debug)]
pub(crate) struct PagePool {
    pages: Vec<Page>,
    /// Pages without holders that hold nothing worth finding, those that were never taken at the
    /// bottom.
    blank: Vec<u32>,
    /// Pages without holders that kept their contents, the longest free first; an entry counts only
    /// if its number of freeings is the page's.
    kept: VecDeque<(u32, u32)>,
    free_count: usize,
    found: HashMap<Content, u32>,
    next_content: u64,
}

/// Content number of the empty sequence.
const ROOT: u64 = 0;

impl PagePool {
    pub(crate) fn new(pages: usize) -> Self {
        let count = u32::try_from(pages).expect("a page number fits 32 bits");
        Self {
            pages: vec![Page::default(); pages],
            blank: (0..count).rev().collect(),
            kept: VecDeque::new(),
            free_count: pages,
            found: HashMap::new(),
            next_content: ROOT + 1,
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.pages.len()
    }

    /// Pages that nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.free_count
    }

    /// Takes a page that holds nothing, the one that was freed last, whose memory is at hand; or
    /// else the one that was free longest, and forgets what it held.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(number) = self.blank.pop() {
            self.pages[number as usize].holders = 1;
            self.free_count -= 1;
            return Some(number);
        }
        while let Some((number, freed)) = self.kept.pop_front() {
            let page = &mut self.pages[number as usize];
            if page.holders > 0 || page.freed != freed {
                continue;
            }
            if let Some((_, content)) = page.content.take() {
                self.found.remove(&content);
            }
            page.holders = 1;
            self.free_count -= 1;
            return Some(number);
        }
        None
    }

    /// Gives up one hold on a page.
    pub(crate) fn release(&mut self, number: u32) {
        let page = &mut self.pages[number as usize];
        assert!(page.holders > 0, "only a holder releases a page");
        page.holders -= 1;
        if page.holders == 0 {
            // Without content nobody finds it: it stays free until it is taken.
            if page.content.is_some() {
                page.freed = page.freed.wrapping_add(1);
                self.kept.push_back((number, page.freed));
                self.drop_stale();
            } else {
                self.blank.push(number);
            }
            self.free_count += 1;
        }
    }

    /// Entries that count no more are dropped once they are the majority: a page that is shared and freed
    /// again and again leaves one each time, and while there are blank pages nobody takes them out.
    fn drop_stale(&mut self) {
        if self.kept.len() > 2 * self.pages.len() {
            let pages = &self.pages;
            self.kept.retain(|&(number, freed)| {
                let page = &pages[number as usize];
                page.holders == 0 && page.freed == freed
            });
        }
    }

    /// Takes a hold on the pages that already hold the beginning of `tokens`, whole pages only.
    /// Returns the content number that the next page follows.
    pub(crate) fn share(&mut self, tokens: &[u32], pages: &mut Vec<u32>) -> u64 {
        let mut parent = ROOT;
        for chunk in tokens.chunks_exact(PAGE_TOKENS) {
            let tokens = chunk.try_into().expect("chunks are exact");
            let Some(&number) = self.found.get(&Content { parent, tokens }) else {
                break;
            };
            let page = &mut self.pages[number as usize];
            if page.holders == 0 {
                self.free_count -= 1;
            }
            page.holders += 1;
            parent = page
                .content
                .as_ref()
                .expect("a page that is found has content")
                .0;
            pages.push(number);
        }
        parent
    }

    /// Makes a computed page findable as the successor of `parent`; returns its content number.
    pub(crate) fn publish(&mut self, number: u32, parent: u64, tokens: Tokens) -> u64 {
        let content = Content { parent, tokens };
        if let Some(&twin) = self.found.get(&content) {
            let twin = self.pages[twin as usize].content.as_ref();
            return twin.expect("a page that is found has content").0;
        }
        let id = self.next_content;
        self.next_content += 1;
        self.found.insert(content, number);
        self.pages[number as usize].content = Some((id, content));
        id
    }

    /// Forgets all contents: after a failed step nobody knows what pages hold.
    pub(crate) fn forget(&mut self) {
        self.found.clear();
        self.pages.iter_mut().for_each(|page| page.content = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: Tokens = [7; PAGE_TOKENS];

    #[test]
    fn memory_that_holds_nothing_worth_finding_is_used_again_before_fresh_memory_is() {
        let mut pool = PagePool::new(4);
        for _ in 0..10 {
            let pages: Vec<u32> = (0..2).map(|_| pool.take().expect("a page")).collect();
            assert!(pages.iter().all(|&page| page < 2), "{pages:?}");
            assert_eq!(pool.free(), 2);
            pages.into_iter().for_each(|page| pool.release(page));
        }
    }

    #[test]
    fn what_is_worth_finding_is_kept_while_there_is_other_room_and_the_oldest_goes_first() {
        let mut pool = PagePool::new(3);
        let mut publish = |token: u32| {
            let page = pool.take().expect("a page");
            pool.publish(page, ROOT, [token; PAGE_TOKENS]);
            pool.release(page);
            page
        };
        let (first, second) = (publish(7), publish(8));
        assert_ne!(first, second);
        let mut found = Vec::new();
        pool.share(&TOKENS, &mut found);
        assert_eq!(found, [first]);
        pool.release(first);
        // The first was used since, so that the second was free longer.
        let rest: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(rest[1..], [second, first]);
        assert_eq!((pool.free(), pool.take()), (0, None));
        pool.share(&TOKENS, &mut found);
        assert_eq!(found, [first], "it is not found a second time");
    }

    #[test]
    fn a_page_that_is_shared_again_and_again_takes_no_room_without_end() {
        let mut pool = PagePool::new(3);
        let page = pool.take().expect("a page");
        pool.publish(page, ROOT, TOKENS);
        pool.release(page);
        for _ in 0..100 {
            let mut found = Vec::new();
            pool.share(&TOKENS, &mut found);
            assert_eq!(found, [page]);
            pool.release(page);
            assert!(pool.kept.len() <= 2 * pool.total(), "{}", pool.kept.len());
        }
        let taken: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken.len(), 3);
        assert_eq!(taken[2], page, "kept the longest");
    }

    #[test]
    fn a_page_whose_content_was_forgotten_while_it_was_kept_is_taken_once() {
        let mut pool = PagePool::new(2);
        let page = pool.take().expect("a page");
        pool.publish(page, ROOT, TOKENS);
        pool.release(page);
        pool.forget();
        let taken: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken.len(), 2);
        assert_ne!(taken[0], taken[1]);
        assert_eq!(pool.free(), 0);
    }
}
