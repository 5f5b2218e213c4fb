//! What is known of schema ids, in a memory of bounded size.

use std::{
    collections::{HashMap, VecDeque},
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::{Duration, Instant},
};

use aligner_records::{DecodeError, avro::AnswerReader};

use crate::{RegistryError, RegistrySettings};

/// The id that registries give first, and so the likeliest one to be there.
const FIRST_ID: u32 = 1;

/// What is known of a schema id.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    Readable(Arc<AnswerReader>),
    /// There, but nothing that we can read; ids are never given to another schema.
    Unreadable(DecodeError),
    /// Not there when last asked, as the registry says.
    Unknown {
        row: Row,
        is_believed: bool,
    },
    /// Refused or not answered for when last asked, while another id was answered for.
    Refused(Refusal),
}

impl Known {
    /// Whether it decides on records, and for how long: unknown ids are registered one day, and
    /// refused ones may be answered for.
    fn decides(&self, settings: &RegistrySettings) -> bool {
        match self {
            Self::Readable(_) | Self::Unreadable(_) => true,
            Self::Unknown { row, is_believed } => {
                // One that nobody waited for may be registered and on its way to a replica.
                let time = if row.reaches(settings.max_misses, settings.missed_for) {
                    settings.unknown_for
                } else {
                    settings.missed_for
                };
                *is_believed && row.last.elapsed() < time
            }
            Self::Refused(refusal) => {
                refusal.is_final(settings) && refusal.row.last.elapsed() < settings.unknown_for
            }
        }
    }
}

/// How often one thing was said of an id in a row, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub times: u32,
    first: Instant,
    last: Instant,
}

impl Row {
    /// Once more, or for the first time.
    fn grown(before: Option<Self>, now: Instant) -> Self {
        Self {
            times: before.map_or(0, |row| row.times).saturating_add(1),
            first: before.map_or(now, |row| row.first),
            last: now,
        }
    }

    fn reaches(&self, times: NonZeroU32, time: Duration) -> bool {
        self.times >= times.get() && self.last.duration_since(self.first) >= time
    }
}

/// Refusals and outages of one id in a row, each while the registry answered for another id.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub row: Row,
    /// What was said last.
    pub error: String,
    /// Whether an outage is among them. Those end by themselves more often, so they take longer.
    is_outage: bool,
}

impl Refusal {
    /// Whether they are enough, over a time long enough, to take the id for unknown.
    pub fn is_final(&self, settings: &RegistrySettings) -> bool {
        let time = if self.is_outage {
            settings.unavailable_for
        } else {
            settings.refused_for
        };
        self.row.reaches(settings.max_refusals, time)
    }
}

/// A bounded memory of schema ids; the oldest is forgotten first.
#[derive(Debug)]
pub(crate) struct Schemas {
    known: HashMap<u32, Known>,
    order: VecDeque<u32>,
    capacity: NonZeroUsize,
    /// When it was last waited for an id in vain.
    waited_in_vain: Option<Instant>,
}

impl Schemas {
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            capacity,
            waited_in_vain: None,
        }
    }

    /// What decides on records of an id; none if the registry must be asked.
    pub fn known(&self, id: u32, settings: &RegistrySettings) -> Option<&Known> {
        self.known.get(&id).filter(|known| known.decides(settings))
    }

    /// An id that shows whether the registry answers at all: the latest one that it answered for,
    /// or any other than `id`.
    pub fn another(&self, id: u32) -> u32 {
        let answered = |other: &u32| {
            let known = self.known.get(other);
            *other != id && known.is_some_and(|known| !matches!(known, Known::Refused(_)))
        };
        let any = if id == FIRST_ID {
            FIRST_ID + 1
        } else {
            FIRST_ID
        };
        self.order.iter().copied().rfind(answered).unwrap_or(any)
    }

    pub fn insert(&mut self, id: u32, known: Known) {
        if self.known.insert(id, known).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > self.capacity.get()
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Takes note that the registry said that there is no such id. Returns whether that makes the
    /// id unknown: if it said so often over a while, lately, or when it was waited for another id
    /// in vain not long ago. So a topic full of made-up ids holds good records up now and then, not
    /// once for each of them.
    pub fn miss(&mut self, id: u32, settings: &RegistrySettings, now: Instant) -> bool {
        let since = |then: Instant| now.duration_since(then);
        let before = match self.known.get(&id) {
            Some(Known::Unknown { row, is_believed }) => Some((*row, *is_believed)),
            _ => None,
        };
        // An id that was unknown long ago may be one that was registered just now.
        let before = before
            .filter(|(row, believed)| !believed || since(row.last) <= 2 * settings.unknown_for);
        let believed_before = before.is_some_and(|(_, believed)| believed);
        let row = Row::grown(before.map(|(row, _)| row), now);
        let waited = row.reaches(settings.max_misses, settings.missed_for);
        if waited && !believed_before {
            self.waited_in_vain = Some(now);
        }
        let in_vain = self
            .waited_in_vain
            .is_some_and(|then| since(then) < settings.unknown_for);
        let is_believed = believed_before || waited || in_vain;
        self.insert(id, Known::Unknown { row, is_believed });
        is_believed
    }

    /// Takes note that an id was refused, or failed for, while another one was answered for.
    pub fn refuse(
        &mut self,
        id: u32,
        error: &RegistryError,
        settings: &RegistrySettings,
        now: Instant,
    ) -> Refusal {
        let before = match self.known.get(&id) {
            Some(Known::Refused(refusal)) => Some(refusal),
            _ => None,
        };
        // While a record waits for it, an id is asked for again and again. One that nobody has asked
        // for lately failed at another time.
        let before = before.filter(|refusal| {
            refusal.is_final(settings)
                || now.duration_since(refusal.row.last) <= 2 * settings.unknown_for
        });
        let is_outage = matches!(error, RegistryError::Unavailable { .. });
        let refusal = Refusal {
            row: Row::grown(before.map(|refusal| refusal.row), now),
            error: error.to_string(),
            is_outage: is_outage || before.is_some_and(|refusal| refusal.is_outage),
        };
        self.insert(id, Known::Refused(refusal.clone()));
        refusal
    }

    /// Forgets how often an id was refused: what was answered now says nothing about it.
    pub fn forgive(&mut self, id: u32) {
        if matches!(self.known.get(&id), Some(Known::Refused(_))) {
            self.known.remove(&id);
            self.order.retain(|other| *other != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas(capacity: usize) -> Schemas {
        Schemas::new(NonZeroUsize::new(capacity).expect("not zero"))
    }

    fn settings(max_refusals: u32, refused_for: Duration) -> RegistrySettings {
        RegistrySettings {
            max_refusals: NonZeroU32::new(max_refusals).expect("not zero"),
            refused_for,
            ..RegistrySettings::new("http://localhost:8081")
        }
    }

    fn unknown() -> Known {
        Known::Unknown {
            row: Row::grown(None, Instant::now()),
            is_believed: true,
        }
    }

    fn no() -> RegistryError {
        RegistryError::Refused {
            url: "http://localhost:8081".into(),
            what: "schema id 7".into(),
            cause: "no".into(),
        }
    }

    fn outage() -> RegistryError {
        RegistryError::Unavailable {
            url: "http://localhost:8081".into(),
            cause: "it answered 500".into(),
        }
    }

    #[test]
    fn the_oldest_schema_is_forgotten_first() {
        let mut schemas = schemas(2);
        for id in [1, 2, 1, 3] {
            schemas.insert(id, unknown());
        }
        let mut known: Vec<_> = schemas.known.keys().copied().collect();
        known.sort_unstable();
        assert_eq!(known, [2, 3]);
        assert_eq!(schemas.order, [2, 3]);
    }

    #[test]
    fn refusals_are_final_when_they_are_many_over_a_long_time_and_in_a_row() {
        let settings = settings(3, Duration::from_secs(60));
        let start = Instant::now();
        let mut schemas = schemas(2);
        let refuse = |schemas: &mut Schemas, second| {
            let now = start + Duration::from_secs(second);
            schemas.refuse(7, &no(), &settings, now).is_final(&settings)
        };
        for (second, is_final) in [(0, false), (1, false), (59, false), (60, true), (61, true)] {
            assert_eq!(refuse(&mut schemas, second), is_final, "second {second}");
        }
        schemas.forgive(7);
        for (second, is_final) in [(62, false), (122, false), (123, true)] {
            assert_eq!(refuse(&mut schemas, second), is_final, "second {second}");
        }
        assert_eq!(schemas.order, [7]);
    }

    #[test]
    fn an_outage_of_one_id_is_final_later_than_its_refusal_also_where_both_take_turns() {
        let settings = RegistrySettings {
            unavailable_for: Duration::from_secs(600),
            ..settings(3, Duration::from_secs(60))
        };
        let start = Instant::now();
        let (no, outage) = (no(), outage());
        for errors in [[&outage, &outage], [&no, &outage], [&outage, &no]] {
            let mut schemas = schemas(2);
            for second in (0..600).step_by(100) {
                let now = start + Duration::from_secs(second);
                let error = errors[usize::from(second > 0)];
                let refusal = schemas.refuse(7, error, &settings, now);
                assert!(!refusal.is_final(&settings), "second {second}");
            }
            for (second, is_final) in [(599, false), (600, true)] {
                let now = start + Duration::from_secs(second);
                let refusal = schemas.refuse(7, errors[1], &settings, now);
                assert_eq!(refusal.is_final(&settings), is_final, "second {second}");
            }
        }
    }

    #[test]
    fn an_id_is_unknown_once_that_was_said_often_over_a_while_and_lately() {
        let settings = RegistrySettings {
            max_misses: NonZeroU32::new(3).expect("not zero"),
            missed_for: Duration::from_secs(3),
            unknown_for: Duration::from_secs(60),
            ..RegistrySettings::new("http://localhost:8081")
        };
        let start = Instant::now();
        let mut schemas = schemas(2);
        for (second, is_unknown) in [
            (0, false),
            (1, false),
            (2, false),
            (3, true),
            // One that is asked for again and again needs to be denied once each time.
            (70, true),
            (140, true),
            (261, false),
            (262, false),
            (264, true),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(
                schemas.miss(7, &settings, now),
                is_unknown,
                "second {second}"
            );
        }
    }

    #[test]
    fn one_id_a_minute_is_waited_for_in_vain() {
        let settings = RegistrySettings {
            max_misses: NonZeroU32::new(2).expect("not zero"),
            missed_for: Duration::from_secs(3),
            unknown_for: Duration::from_secs(60),
            ..RegistrySettings::new("http://localhost:8081")
        };
        let start = Instant::now();
        let mut schemas = schemas(9);
        for (second, id, is_unknown) in [
            (0, 7, false),
            (3, 7, true),
            (4, 8, true),
            (62, 9, true),
            (63, 10, false),
            (66, 10, true),
            (67, 11, true),
        ] {
            let now = start + Duration::from_secs(second);
            let said = schemas.miss(id, &settings, now);
            assert_eq!(said, is_unknown, "second {second}");
        }
    }

    #[test]
    fn failures_hours_apart_are_no_row() {
        let settings = settings(2, Duration::from_secs(60));
        let start = Instant::now();
        let mut schemas = schemas(2);
        for (second, is_final) in [(0, false), (7200, false), (7259, false), (7260, true)] {
            let now = start + Duration::from_secs(second);
            let refusal = schemas.refuse(7, &outage(), &settings, now);
            let refused = schemas.refuse(8, &no(), &settings, now);
            assert_eq!(refused.is_final(&settings), is_final, "second {second}");
            assert!(!refusal.is_final(&settings), "second {second}");
        }
    }

    #[test]
    fn an_id_that_was_given_up_is_asked_for_again_and_one_refusal_more_is_enough() {
        let mut settings = settings(2, Duration::ZERO);
        let mut schemas = schemas(2);
        schemas.refuse(7, &no(), &settings, Instant::now());
        assert!(schemas.known(7, &settings).is_none(), "once is not enough");
        schemas.refuse(7, &no(), &settings, Instant::now());
        assert!(schemas.known(7, &settings).is_some());
        settings.unknown_for = Duration::ZERO;
        assert!(schemas.known(7, &settings).is_none(), "some time later");
        let again = schemas.refuse(7, &no(), &settings, Instant::now());
        assert!(again.is_final(&settings));
    }

    #[test]
    fn the_registry_is_tried_with_the_latest_id_that_it_answered_for() {
        let mut schemas = schemas(9);
        assert_eq!(schemas.another(7), 1);
        assert_eq!(schemas.another(1), 2);
        schemas.insert(5, unknown());
        schemas.insert(6, unknown());
        schemas.refuse(8, &no(), &settings(1, Duration::ZERO), Instant::now());
        assert_eq!(schemas.another(7), 6);
        assert_eq!(schemas.another(6), 5);
    }
}
