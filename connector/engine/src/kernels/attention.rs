//! Attention of ragged query rows over keys and values in pages.
//!
//! A page holds [`LANES`] tokens of one sequence. Its keys are stored transposed, `[d][16]`, so
//! that one vector is the same component of sixteen keys and a score is a sum within a lane; its
//! values are stored `[16][d]`. Nothing is gathered, padded or copied to get at them.
//!
//! A row's scores are computed in full before its softmax. An online softmax would depend on
//! where blocks begin; this depends only on the row's own position.

use super::{
    Aligned, Floats, LANES, Pool, Shared,
    element::{Element, Full, Half},
    for_each_isa,
    kv::{KvLayer, KvPrecision},
    lanes::{self, Lanes, MOST_QUERIES, exp, maximum, sum, tanh},
};

/// What does not change between calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// Components of a head.
    pub(crate) head: usize,
    /// `head` rounded up to whole vectors: the stride of queries and values.
    pub(crate) padded: usize,
    pub(crate) scale: f32,
    pub(crate) softcap: Option<f32>,
}

/// One sequence's query rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attend<'a> {
    /// First of its rows in `queries` and `out`.
    pub(crate) row: usize,
    pub(crate) rows: usize,
    /// Position of its first row.
    pub(crate) start: usize,
    /// Where each page of the sequence lies in the store.
    pub(crate) pages: &'a [u32],
}

/// Scratch values that each thread needs for contexts up to `positions`.
fn scratch_len(positions: usize) -> usize {
    MOST_QUERIES * positions.next_multiple_of(LANES)
}

/// [`Lanes::QUERIES`] of an instruction set.
fn queries_together(isa: Floats) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Floats::Avx512 => lanes::Avx512::QUERIES,
        #[cfg(target_arch = "x86_64")]
        Floats::Avx2 => lanes::Avx2::QUERIES,
        Floats::Portable => lanes::Portable::QUERIES,
    }
}

#[derive(Clone, Copy)]
struct Operands {
    shape: AttentionShape,
    /// `[row][head][padded]`
    queries: *const f32,
    store: KvLayer,
    window: usize,
    out: *mut f32,
}

// SAFETY: read-only but for `out`, where tasks own disjoint rows and heads.
unsafe impl Sync for Operands {}

/// `out[row][head · d] = softmax(q · kᵀ) · v` for all rows of all sequences.
///
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel's operands, none of them optional"
)]
pub(crate) fn attend(
    pool: &mut Pool,
    isa: Floats,
    shape: AttentionShape,
    window: Option<usize>,
    work: &[Attend<'_>],
    queries: &[f32],
    store: KvLayer,
    scratch: &mut Aligned<f32>,
    out: &mut [f32],
) {
    let longest = work
        .iter()
        .map(|part| part.start + part.rows)
        .max()
        .unwrap_or(0);
    let per_worker = scratch_len(longest);
    scratch.ensure(per_worker * pool.threads());
    let scratch = Shared::of(scratch);
    let group = shape.heads / shape.kv_heads;
    // A task is one sequence, one KV head and as many of its rows as share a pass.
    let rows_per_task = (queries_together(isa) / group).max(1);
    let tasks: usize = work
        .iter()
        .map(|part| part.rows.div_ceil(rows_per_task) * shape.kv_heads)
        .sum();
    let chunks = tasks.min(8 * pool.threads());
    let operands = Operands {
        shape,
        queries: queries.as_ptr(),
        store,
        window: window.unwrap_or(usize::MAX),
        out: out.as_mut_ptr(),
    };
    let operands = &operands;
    pool.run(chunks, &|chunk, worker| {
        let (first, last) = (chunk * tasks / chunks, (chunk + 1) * tasks / chunks);
        let mut task = 0;
        for part in work {
            let here = part.rows.div_ceil(rows_per_task) * shape.kv_heads;
            let (from, to) = (
                first.max(task) - task,
                last.min(task + here).max(task) - task,
            );
            for index in from..to.max(from) {
                let row = index / shape.kv_heads * rows_per_task;
                let rows = rows_per_task.min(part.rows - row);
                // SAFETY: tasks own disjoint rows and heads of `out`; scratch belongs to the
                // worker; the pages of `part` lie within the store.
                unsafe {
                    let attend = match operands.store.precision {
                        KvPrecision::F32 => attend_full,
                        KvPrecision::F16 => attend_half,
                    };
                    attend(
                        isa,
                        operands,
                        part,
                        row,
                        rows,
                        index % shape.kv_heads,
                        scratch.at(worker * per_worker),
                    );
                }
            }
            task += here;
        }
    });
}

for_each_isa! {
    unsafe fn attend_full(
        operands: &Operands,
        part: &Attend<'_>,
        row: usize,
        rows: usize,
        kv_head: usize,
        scratch: *mut f32,
    ) = attend_full_on
}

for_each_isa! {
    unsafe fn attend_half(
        operands: &Operands,
        part: &Attend<'_>,
        row: usize,
        rows: usize,
        kv_head: usize,
        scratch: *mut f32,
    ) = attend_half_on
}

#[inline(always)]
unsafe fn attend_full_on<L: Lanes>(
    operands: &Operands,
    part: &Attend<'_>,
    row: usize,
    rows: usize,
    kv_head: usize,
    scratch: *mut f32,
) {
    unsafe { attend_some_on::<L, Full>(operands, part, row, rows, kv_head, scratch) }
}

#[inline(always)]
unsafe fn attend_half_on<L: Lanes>(
    operands: &Operands,
    part: &Attend<'_>,
    row: usize,
    rows: usize,
    kv_head: usize,
    scratch: *mut f32,
) {
    unsafe { attend_some_on::<L, Half>(operands, part, row, rows, kv_head, scratch) }
}

/// One query of a pass.
#[derive(Clone, Copy)]
struct Query {
    from: *const f32,
    to: *mut f32,
    /// Keys `first..end` are visible.
    first: usize,
    end: usize,
}

#[inline(always)]
unsafe fn attend_some_on<L: Lanes, E: Element>(
    operands: &Operands,
    part: &Attend<'_>,
    row: usize,
    rows: usize,
    kv_head: usize,
    scratch: *mut f32,
) {
    let shape = operands.shape;
    let group = shape.heads / shape.kv_heads;
    let query = |index: usize| {
        let row = row + index / group;
        let head = kv_head * group + index % group;
        let position = part.start + row;
        unsafe {
            Query {
                from: operands
                    .queries
                    .add(((part.row + row) * shape.heads + head) * shape.padded),
                to: operands
                    .out
                    .add(((part.row + row) * shape.heads + head) * shape.head),
                first: (position + 1).saturating_sub(operands.window),
                end: position + 1,
            }
        }
    };
    let count = rows * group;
    let mut done = 0;
    while done < count {
        let take = L::QUERIES.min(count - done);
        let mut queries = [query(done); MOST_QUERIES];
        for (index, slot) in queries[..take].iter_mut().enumerate() {
            *slot = query(done + index);
        }
        unsafe { pass::<L, E>(operands, part.pages, kv_head, &queries[..take], scratch) };
        done += take;
    }
}

#[inline(always)]
unsafe fn pass<L: Lanes, E: Element>(
    operands: &Operands,
    pages: &[u32],
    kv_head: usize,
    queries: &[Query],
    scratch: *mut f32,
) {
    let shape = operands.shape;
    let first = queries.iter().map(|query| query.first).min().unwrap_or(0) / LANES * LANES;
    let end = queries.iter().map(|query| query.end).max().unwrap_or(0);
    let stride = end.next_multiple_of(LANES) - first;
    unsafe {
        macro_rules! of_queries {
            ($($queries:literal x $pages:literal)*) => {
                match queries.len() {
                    $($queries => scores::<L, E, $queries, $pages>(
                        operands, pages, kv_head, queries, (first, end), stride, scratch,
                    ),)*
                    _ => unreachable!("a pass has between one and QUERIES queries"),
                }
            };
        }
        // As many sums as fit into registers.
        let few_registers = L::QUERIES < MOST_QUERIES;
        if few_registers {
            of_queries!(1 x 6 2 x 3 3 x 2 4 x 1 5 x 1 6 x 1);
        } else {
            of_queries!(1 x 8 2 x 4 3 x 2 4 x 2 5 x 1 6 x 1 7 x 1 8 x 1);
        }
        let mut inverse = [0.0; MOST_QUERIES];
        for (index, query) in queries.iter().enumerate() {
            let row = scratch.add(index * stride);
            inverse[index] = softmax::<L>(shape.softcap, query, first, stride, row);
        }
        let vectors = shape.padded / LANES;
        let mut vector = 0;
        while vector < vectors {
            let crowded = few_registers && queries.len() > 2;
            let take = if vectors - vector >= 4 && !crowded {
                4
            } else {
                1
            };
            let together = match (take, L::TILE_PANELS) {
                (4, 1) => 1,
                (_, 1) if few_registers => 6,
                (_, 1) => 4,
                (4, _) => 4,
                _ => 8,
            };
            let mut done = 0;
            while done < queries.len() {
                let mix = Mix {
                    operands,
                    pages,
                    kv_head,
                    keys: (first, end),
                    weights: scratch.add(done * stride),
                    stride,
                    inverse: &inverse[done..],
                    queries: &queries[done..],
                    vector,
                };
                let left = together.min(queries.len() - done);
                let did = match (take, left) {
                    (4, 4) => mix.run::<L, E, 4, 4>(),
                    (4, 2 | 3) => mix.run::<L, E, 2, 4>(),
                    (4, _) => mix.run::<L, E, 1, 4>(),
                    (_, 8) => mix.run::<L, E, 8, 1>(),
                    (_, 6) if few_registers => mix.run::<L, E, 6, 1>(),
                    (_, 4..) => mix.run::<L, E, 4, 1>(),
                    (_, 3) if few_registers => mix.run::<L, E, 3, 1>(),
                    _ => mix.run::<L, E, 1, 1>(),
                };
                done += did;
            }
            vector += take;
        }
    }
}

/// Writes each query's scaled scores to its row of the scratch.
#[inline(always)]
unsafe fn scores<L: Lanes, E: Element, const QUERIES: usize, const PAGES: usize>(
    operands: &Operands,
    pages: &[u32],
    kv_head: usize,
    queries: &[Query],
    (first, end): (usize, usize),
    stride: usize,
    scratch: *mut f32,
) {
    let shape = operands.shape;
    let page_at = |page: usize| unsafe {
        operands.store.keys.cast::<E::Stored>().cast_const().add(
            pages[page] as usize * operands.store.page_stride
                + kv_head * operands.store.head_stride,
        )
    };
    let (first_page, last_page) = (first / LANES, end.div_ceil(LANES));
    let scale = unsafe { L::splat(shape.scale) };
    let mut page = first_page;
    while page < last_page {
        let take = PAGES.min(last_page - page);
        unsafe {
            let mut at = [page_at(page); PAGES];
            for (index, at) in at[..take].iter_mut().enumerate() {
                *at = page_at(page + index);
            }
            let mut sums = [[L::splat(0.0); PAGES]; QUERIES];
            for d in 0..shape.head {
                let mut keys = [L::splat(0.0); PAGES];
                for (key, at) in keys.iter_mut().zip(&at) {
                    *key = E::load::<L>(at.add(d * LANES));
                }
                for (sums, query) in sums.iter_mut().zip(queries) {
                    let component = L::splat(*query.from.add(d));
                    for (sum, &key) in sums.iter_mut().zip(&keys) {
                        *sum = component.mul_add(key, *sum);
                    }
                }
            }
            for (index, sums) in sums.iter().enumerate() {
                let row = scratch.add(index * stride + (page - first_page) * LANES);
                for (page, sum) in sums[..take].iter().enumerate() {
                    sum.mul(scale).store(row.add(page * LANES));
                }
            }
        }
        page += take;
    }
}

/// The score of a key that the query does not see: below every other, and finite.
const HIDDEN: f32 = f32::MIN;

/// Turns scores into weights that still have to be multiplied by the returned factor; keys that
/// the query does not see get weight 0.
#[inline(always)]
unsafe fn softmax<L: Lanes>(
    softcap: Option<f32>,
    query: &Query,
    first: usize,
    len: usize,
    row: *mut f32,
) -> f32 {
    unsafe {
        // Before the first and after the last visible key.
        for hidden in (0..query.first - first).chain(query.end - first..len) {
            *row.add(hidden) = HIDDEN;
        }
        // Whole vectors around what is visible, so that a query's sums do not depend on which
        // other queries share the pass.
        let from = (query.first - first) / LANES * LANES;
        let to = (query.end - first).next_multiple_of(LANES);
        let mut largest = L::splat(f32::NEG_INFINITY);
        // Zero, or no number where a score is none or infinite. A key too large for f16 gives such
        // scores, and `exp` or a soft cap would make numbers of them again.
        let mut zeros = L::splat(0.0);
        for at in (from..to).step_by(LANES) {
            let mut score = L::load(row.add(at));
            zeros = score.mul_add(L::splat(0.0), zeros);
            if let Some(cap) = softcap {
                // The hidden stay hidden: they are below every soft cap.
                let capped = tanh(score.div(L::splat(cap))).mul(L::splat(cap));
                capped.store(row.add(at));
                for hidden in at..at + LANES {
                    if hidden < query.first - first || hidden >= query.end - first {
                        *row.add(hidden) = HIDDEN;
                    }
                }
                score = L::load(row.add(at));
            }
            largest = largest.max(score);
        }
        let largest = L::splat(maximum(largest));
        let mut total = zeros;
        for at in (from..to).step_by(LANES) {
            let weight = exp(L::load(row.add(at)).sub(largest));
            weight.store(row.add(at));
            total = total.add(weight);
        }
        // `exp` gives a little even for them, not zero: hide for good.
        for hidden in (0..query.first - first).chain(query.end - first..len) {
            *row.add(hidden) = 0.0;
        }
        1.0 / sum(total)
    }
}

struct Mix<'a> {
    operands: &'a Operands,
    pages: &'a [u32],
    kv_head: usize,
    keys: (usize, usize),
    weights: *const f32,
    stride: usize,
    inverse: &'a [f32],
    queries: &'a [Query],
    vector: usize,
}

impl Mix<'_> {
    /// Mixes values by weight for `QUERIES` queries and `VECTORS` vectors of components.
    #[inline(always)]
    unsafe fn run<L: Lanes, E: Element, const QUERIES: usize, const VECTORS: usize>(
        &self,
    ) -> usize {
        let shape = self.operands.shape;
        let (first, end) = self.keys;
        unsafe {
            let mut sums = [[L::splat(0.0); VECTORS]; QUERIES];
            let mut at = first;
            while at < end {
                let page = self
                    .operands
                    .store
                    .values
                    .cast::<E::Stored>()
                    .cast_const()
                    .add(
                        self.pages[at / LANES] as usize * self.operands.store.page_stride
                            + self.kv_head * self.operands.store.head_stride
                            + self.vector * LANES,
                    );
                for key in 0..LANES.min(end - at) {
                    let mut values = [L::splat(0.0); VECTORS];
                    for (index, value) in values.iter_mut().enumerate() {
                        *value = E::load::<L>(page.add(key * shape.padded + index * LANES));
                    }
                    for (query, sums) in sums.iter_mut().enumerate() {
                        let weight =
                            L::splat(*self.weights.add(query * self.stride + at - first + key));
                        for (sum, &value) in sums.iter_mut().zip(&values) {
                            *sum = weight.mul_add(value, *sum);
                        }
                    }
                }
                at += LANES;
            }
            for (query, sums) in sums.iter().enumerate() {
                let inverse = L::splat(self.inverse[query]);
                for (index, sum) in sums.iter().enumerate() {
                    let mut mixed = [0.0; LANES];
                    sum.mul(inverse).store(mixed.as_mut_ptr());
                    let component = (self.vector + index) * LANES;
                    let exist = LANES.min(shape.head - component);
                    self.queries[query]
                        .to
                        .add(component)
                        .copy_from_nonoverlapping(mixed.as_ptr(), exist);
                }
            }
        }
        QUERIES
    }
}

#[cfg(test)]
mod tests;
