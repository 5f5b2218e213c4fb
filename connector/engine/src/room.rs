//! How much room a worker has for keys and values.

use aligner_checkpoint::Config;

use crate::{Limits, LoadError, backend::PAGE_TOKENS, kernels::LANES, scheduler::Budget};

/// Unless `kv_tokens` says otherwise, keys and values of a worker take this much memory at most, or
/// what one long sequence takes, if that is more: a large model could not work in less.
const KV_BYTES: usize = 2 << 30;
/// And no more tokens than this.
const KV_TOKENS: usize = 1 << 16;
/// How long a sequence fits whatever memory it takes, where the context is as long.
const KV_SEQUENCE: usize = 4096;

/// Bytes of the keys and values of a token, each number in so many bytes.
pub(crate) fn token_bytes(config: &Config, element_bytes: usize) -> usize {
    let head = config.head.next_multiple_of(LANES);
    2 * element_bytes * config.layers.len() * config.kv_heads * head
}

/// What a worker may hold and compute at a time.
pub(crate) fn budget(config: &Config, token_bytes: usize, limits: Limits) -> Budget {
    let tokens = limits.kv_tokens.unwrap_or_else(|| {
        let one_sequence = config.context.min(KV_SEQUENCE);
        (KV_BYTES / token_bytes).clamp(one_sequence, KV_TOKENS.max(one_sequence))
    });
    Budget {
        step_tokens: limits.max_step_tokens.max(1),
        running: limits.max_running.max(1),
        pages: tokens.div_ceil(PAGE_TOKENS).max(1),
    }
}

/// Refuses so many bytes for a worker where the system gives no memory for them, which would abort
/// the process. That there is enough once all of it is in use, no system says.
pub(crate) fn expect(bytes: usize, budget: Budget) -> Result<(), LoadError> {
    // Usual sizes are not tried: an allocator may keep what comes back and clear it for the next who
    // asks, and what is cleared is in use.
    let little = bytes <= 4 * KV_BYTES;
    // Keys and values lie apart.
    if little || Vec::<u8>::new().try_reserve_exact(bytes / 2).is_ok() {
        return Ok(());
    }
    Err(LoadError::Setting {
        setting: "kv_tokens",
        value: (budget.pages * PAGE_TOKENS).to_string(),
        problem: format!(
            "takes {} MiB for keys and values, which this system does not give; set it lower",
            bytes.div_ceil(1 << 20)
        ),
    })
}
