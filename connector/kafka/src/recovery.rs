//! Decisions after something went wrong, as plain functions and counters.
//!
//! Nothing here waits or speaks to a broker: what is known goes in, what to do comes out.

use std::{
    collections::VecDeque,
    fmt,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;

use crate::listing::shown;

/// Being fenced more often than this within [`FENCING_WINDOW`] is no accident.
const FENCINGS_WITH_INSTANCE_ID: usize = 2;
/// The same for a random transactional id, which only a hasty successor fences.
const FENCINGS_WITHOUT_INSTANCE_ID: usize = 5;
const FENCING_WINDOW: Duration = Duration::from_secs(60);

/// Whether a transaction whose commit was not answered took place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// It did.
    Delivered,
    /// It did not.
    NotDelivered,
    /// One part did, which transactions rule out.
    Torn {
        delivered: Vec<Partition>,
        missing: Vec<Partition>,
    },
}

impl fmt::Display for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::NotDelivered => f.write_str("not delivered"),
            Self::Torn { delivered, missing } => write!(
                f,
                "torn: offsets of {} were committed and those of {} were not",
                shown(delivered),
                shown(missing)
            ),
        }
    }
}

/// What the group has committed in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    /// Whether a transaction of ours did: its identity is written beside the offset.
    pub(crate) by_us: bool,
}

/// Decides from stable committed offsets, before anything else is committed. An offset that somebody
/// else committed behind the target tells nothing: they may have begun before it or at it. Where all
/// are of that kind, others have written the outputs, or found them written.
pub(crate) fn settle(
    targets: &[(Partition, i64)],
    committed: impl Fn(&Partition) -> Option<Committed>,
) -> Settlement {
    let (mut delivered, mut missing) = (Vec::new(), Vec::new());
    for (partition, target) in targets {
        match committed(partition).filter(|found| found.offset >= *target) {
            Some(found) if found.by_us => delivered.push(partition.clone()),
            Some(_) => {}
            None => missing.push(partition.clone()),
        }
    }
    match (delivered.is_empty(), missing.is_empty()) {
        (_, true) => Settlement::Delivered,
        (true, false) => Settlement::NotDelivered,
        (false, false) => Settlement::Torn { delivered, missing },
    }
}

/// Remembers how often we were fenced.
#[derive(Debug)]
pub(crate) struct Fencings {
    identity: String,
    has_instance_id: bool,
    recent: VecDeque<Instant>,
    /// When a claim of our own was last in doubt.
    own: Option<Instant>,
}

impl Fencings {
    pub(crate) fn new(identity: String, has_instance_id: bool) -> Self {
        Self {
            identity,
            has_instance_id,
            recent: VecDeque::new(),
            own: None,
        }
    }

    /// A claim of ours took so long, or was not answered, that it may have been sent twice: its first copy
    /// fences us where it arrives late.
    pub(crate) fn expect_own(&mut self, now: Instant) {
        self.own = Some(now);
    }

    /// Notes a fencing by somebody else; returns the cause to stop with when it is one too many.
    /// A fencing that followed the transaction's own timeout is the broker's and not noted here, and none
    /// counts for a while after a claim of our own that was in doubt.
    pub(crate) fn note(&mut self, now: Instant) -> Option<String> {
        let limit = if self.has_instance_id {
            FENCINGS_WITH_INSTANCE_ID
        } else {
            FENCINGS_WITHOUT_INSTANCE_ID
        };
        if self
            .own
            .is_some_and(|at| now.duration_since(at) < FENCING_WINDOW)
        {
            return None;
        }
        self.recent
            .retain(|at| now.duration_since(*at) < FENCING_WINDOW);
        self.recent.push_back(now);
        if self.recent.len() < limit {
            return None;
        }
        let fix = if self.has_instance_id {
            "duplicate instance id: another process runs with the same name and \
             kafka.instance_id, or with ones that join to the same id; give each its own"
        } else {
            "another process keeps taking the transactional id; look for a second pipeline with \
             this name"
        };
        Some(format!(
            "transactional id \"{}\" was fenced {} times within {} s: {fix}",
            self.identity,
            self.recent.len(),
            FENCING_WINDOW.as_secs()
        ))
    }
}

/// Where a transaction is, agreed between the thread that makes the calls, which may hang, and
/// the one that waits for it, which must not.
#[derive(Debug)]
pub(crate) struct Phase(AtomicU8);

const BEFORE_COMMIT: u8 = 0;
const COMMITTING: u8 = 1;
const ABANDONED: u8 = 2;

impl Phase {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(BEFORE_COMMIT))
    }

    /// A new transaction begins. False once abandoned.
    pub(crate) fn begin(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |phase| {
                (phase != ABANDONED).then_some(BEFORE_COMMIT)
            })
            .is_ok()
    }

    /// The commit is about to be called. False once abandoned: it must not be.
    pub(crate) fn enter_commit(&self) -> bool {
        self.0
            .compare_exchange(
                BEFORE_COMMIT,
                COMMITTING,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
    }

    /// Nobody waits any more. Returns whether a commit may have been sent.
    pub(crate) fn abandon(&self) -> bool {
        self.0.swap(ABANDONED, Ordering::AcqRel) == COMMITTING
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partition(number: i32) -> Partition {
        Partition {
            topic: "answers".into(),
            number,
        }
    }

    fn by_us(offset: i64) -> Option<Committed> {
        Some(Committed {
            offset,
            by_us: true,
        })
    }

    fn by_others(offset: i64) -> Option<Committed> {
        Some(Committed {
            offset,
            by_us: false,
        })
    }

    fn settled(targets: &[i64], committed: &[Option<Committed>]) -> Settlement {
        let targets: Vec<_> = targets
            .iter()
            .zip(0..)
            .map(|(target, number)| (partition(number), *target))
            .collect();
        settle(&targets, |partition| {
            committed[usize::try_from(partition.number).expect("counted up from zero")]
        })
    }

    #[test]
    fn committed_offsets_tell_whether_an_unanswered_commit_took_place() {
        for (targets, committed, expected) in [
            (
                vec![10, 20],
                vec![by_us(10), by_us(20)],
                Settlement::Delivered,
            ),
            (
                vec![10, 20],
                vec![by_us(7), by_us(15)],
                Settlement::NotDelivered,
            ),
            (vec![10, 20], vec![None, None], Settlement::NotDelivered),
            (vec![10], vec![by_us(11)], Settlement::Delivered),
            (vec![], vec![], Settlement::Delivered),
            (
                vec![10, 20],
                vec![by_us(10), None],
                Settlement::Torn {
                    delivered: vec![partition(0)],
                    missing: vec![partition(1)],
                },
            ),
            // Others have taken a partition and gone on.
            (
                vec![10, 20],
                vec![by_others(30), by_us(15)],
                Settlement::NotDelivered,
            ),
            (
                vec![10, 20],
                vec![by_others(30), by_us(20)],
                Settlement::Delivered,
            ),
            (
                vec![10, 20],
                vec![by_others(30), by_others(7)],
                Settlement::NotDelivered,
            ),
            (vec![10], vec![by_others(30)], Settlement::Delivered),
        ] {
            assert_eq!(settled(&targets, &committed), expected);
        }
    }

    #[test]
    fn a_torn_transaction_names_its_partitions_as_the_log_does() {
        let torn = Settlement::Torn {
            delivered: vec![partition(0), partition(1)],
            missing: vec![partition(2)],
        };
        let [zero, one, two] = [0, 1, 2].map(|number| partition(number).to_string());
        assert_eq!(
            torn.to_string(),
            format!("torn: offsets of {zero} {one} were committed and those of {two} were not")
        );
    }

    proptest! {
        #[test]
        fn an_atomic_commit_is_never_judged_torn(
            before in prop::collection::vec(0..100_i64, 1..8),
            steps in prop::collection::vec(1..50_i64, 8),
            took_place: bool,
        ) {
            let targets: Vec<_> =
                before.iter().zip(&steps).map(|(offset, step)| offset + step).collect();
            let committed: Vec<_> = if took_place { &targets } else { &before }
                .iter()
                .map(|offset| by_us(*offset))
                .collect();
            let expected =
                if took_place { Settlement::Delivered } else { Settlement::NotDelivered };
            prop_assert_eq!(settled(&targets, &committed), expected);
        }
    }

    #[test]
    fn a_second_fencing_within_a_minute_names_the_duplicate() {
        let start = Instant::now();
        let mut fencings = Fencings::new("moderation-0".to_owned(), true);
        assert_eq!(fencings.note(start), None);
        assert_eq!(fencings.note(start + Duration::from_secs(61)), None);
        let cause = fencings
            .note(start + Duration::from_secs(100))
            .expect("two within a minute");
        assert!(cause.contains("duplicate instance id"), "{cause}");
        assert!(cause.contains("moderation-0"), "{cause}");
    }

    #[test]
    fn a_random_id_is_fenced_by_mistake_a_few_times_before_it_stops() {
        let start = Instant::now();
        let mut fencings = Fencings::new("moderation-a1".to_owned(), false);
        for second in 0..4 {
            assert_eq!(fencings.note(start + Duration::from_secs(second)), None);
        }
        assert!(fencings.note(start + Duration::from_secs(4)).is_some());
    }

    #[test]
    fn fencings_are_nobodys_fault_for_a_minute_after_a_claim_of_our_own_in_doubt() {
        let start = Instant::now();
        let mut fencings = Fencings::new("moderation-0".to_owned(), true);
        fencings.expect_own(start);
        for second in [1, 2, 30, 59] {
            assert_eq!(fencings.note(start + Duration::from_secs(second)), None);
        }
        assert_eq!(fencings.note(start + Duration::from_secs(61)), None);
        assert!(fencings.note(start + Duration::from_secs(62)).is_some());
    }

    #[test]
    fn an_abandoned_transaction_is_never_committed() {
        let phase = Phase::new();
        assert!(phase.begin());
        assert!(!phase.abandon());
        assert!(!phase.enter_commit());
        assert!(!phase.begin());
    }

    #[test]
    fn a_transaction_abandoned_while_committing_is_ambiguous() {
        let phase = Phase::new();
        assert!(phase.begin());
        assert!(phase.enter_commit());
        assert!(phase.abandon());
    }
}
