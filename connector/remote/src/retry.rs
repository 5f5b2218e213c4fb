//! How long to wait before the next attempt. Pure: chance comes in as an argument.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::RemoteSettings;

/// The pause after `failed` attempts (1 or more).
///
/// Doubles from attempt to attempt. Half of it is left to `chance` (0 to 1), so that requests that
/// failed together do not come back together. What the server asks for is the least, and
/// `max_pause` is the most.
pub(crate) fn pause(
    settings: &RemoteSettings,
    failed: u32,
    asked: Option<Duration>,
    chance: f64,
) -> Duration {
    let doubled = settings
        .first_pause
        .saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)))
        .min(settings.max_pause);
    let spread = doubled.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0));
    spread
        .max(asked.unwrap_or_default())
        .min(settings.max_pause)
}

/// A number from 0 to 1 that differs from call to call; nothing depends on its quality.
pub(crate) fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).expect("32 bits")) / f64::from(u32::MAX)
}

/// The `Retry-After` header, in its seconds form; servers of models do not use dates.
pub(crate) fn retry_after(value: Option<&str>) -> Option<Duration> {
    value?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use aligner::Profile;

    use super::*;

    fn settings() -> RemoteSettings {
        let mut settings = RemoteSettings::new("http://h/v1", "m", Profile::paper("m"));
        settings.first_pause = Duration::from_millis(100);
        settings.max_pause = Duration::from_secs(2);
        settings
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_chance_takes_at_most_half() {
        let pauses = |chance| {
            [1, 2, 3, 5, 6, 40].map(|failed| pause(&settings(), failed, None, chance).as_millis())
        };
        assert_eq!(pauses(1.0), [100, 200, 400, 1600, 2000, 2000]);
        assert_eq!(pauses(0.0), [50, 100, 200, 800, 1000, 1000]);
    }

    #[test]
    fn the_servers_wish_is_the_least_and_the_limit_the_most() {
        let asked = |seconds| pause(&settings(), 1, Some(Duration::from_secs(seconds)), 0.0);
        assert_eq!(asked(1), Duration::from_secs(1));
        assert_eq!(asked(600), Duration::from_secs(2));
        assert_eq!(asked(0), Duration::from_millis(50));
    }

    #[test]
    fn only_seconds_are_read_from_retry_after() {
        assert_eq!(retry_after(Some(" 3 ")), Some(Duration::from_secs(3)));
        for value in [
            None,
            Some(""),
            Some("-1"),
            Some("Wed, 21 Oct 2026 07:28:00 GMT"),
        ] {
            assert_eq!(retry_after(value), None);
        }
    }

    #[test]
    fn chance_is_a_share() {
        for _ in 0..100 {
            assert!((0.0..=1.0).contains(&chance()));
        }
    }
}
