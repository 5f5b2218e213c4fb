//! Pages of the key-value store: who holds which, and which still hold something worth finding.
//!
//! A page of computed tokens is immutable, so sequences that begin alike share it: the template's
//! head, a question asked about several answers, a sequence that was preempted and comes back. A
//! page is found by its exact tokens and the page before it; no hash is trusted alone. Freed
//! pages keep their contents until the space is needed.
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
    /// Counts how often it was queued as free, to tell stale entries of the queue.
    freed: u32,
}

/// All pages of one worker.
#[derive(Debug)]
pub(crate) struct PagePool {
    pages: Vec<Page>,
    /// Pages without holders, the longest free first; an entry counts only if its number of
    /// freeings is the page's.
    free: VecDeque<(u32, u32)>,
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
            free: (0..count).map(|page| (page, 0)).collect(),
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

    /// Takes the page that was free longest, and forgets what it held.
    pub(crate) fn take(&mut self) -> Option<u32> {
        while let Some((number, freed)) = self.free.pop_front() {
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
            page.freed = page.freed.wrapping_add(1);
            self.free.push_back((number, page.freed));
            self.free_count += 1;
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
