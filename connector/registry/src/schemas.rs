//! What is known of schema ids, in a memory of bounded size.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
    time::Instant,
};

use aligner_records::{DecodeError, avro::AnswerReader};

use crate::RegistrySettings;

/// The id that registries give first, and so the likeliest one to be there.
const FIRST_ID: u32 = 1;

/// What is known of a schema id.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    Readable(Arc<AnswerReader>),
    /// There, but nothing that we can read; ids are never given to another schema.
    Unreadable(DecodeError),
    /// Not there when last asked.
    Unknown(Instant),
    /// Not answered for when last asked, while another id was.
    Refused(Refusal),
}

impl Known {
    /// Whether it decides on records. A registry's replica may lag behind, so that unknown ids
    /// become known, and refused ones may be answered for one day.
    fn decides(&self, settings: &RegistrySettings) -> bool {
        match self {
            Self::Readable(_) | Self::Unreadable(_) => true,
            Self::Unknown(since) => since.elapsed() < settings.unknown_for,
            Self::Refused(refusal) => {
                refusal.is_final(settings) && refusal.last.elapsed() < settings.unknown_for
            }
        }
    }
}

/// Refusals of one id in a row, each while the registry answered for another id.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub times: u32,
    /// What was said last.
    pub error: String,
    first: Instant,
    last: Instant,
}

impl Refusal {
    /// Whether they are enough, over a time long enough, to take the id for unknown.
    pub fn is_final(&self, settings: &RegistrySettings) -> bool {
        self.times >= settings.max_refusals.get()
            && self.last.duration_since(self.first) >= settings.refused_for
    }
}

/// A bounded memory of schema ids; the oldest is forgotten first.
#[derive(Debug)]
pub(crate) struct Schemas {
    known: HashMap<u32, Known>,
    order: VecDeque<u32>,
    capacity: NonZeroUsize,
}

impl Schemas {
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            capacity,
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

    /// Takes note that an id was refused while another one was answered for.
    pub fn refuse(&mut self, id: u32, error: String, now: Instant) -> Refusal {
        let before = match self.known.get(&id) {
            Some(Known::Refused(refusal)) => Some(refusal),
            _ => None,
        };
        let refusal = Refusal {
            times: before.map_or(0, |refusal| refusal.times).saturating_add(1),
            error,
            first: before.map_or(now, |refusal| refusal.first),
            last: now,
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
    use std::{num::NonZeroU32, time::Duration};

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

    #[test]
    fn the_oldest_schema_is_forgotten_first() {
        let mut schemas = schemas(2);
        for id in [1, 2, 1, 3] {
            schemas.insert(id, Known::Unknown(Instant::now()));
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
            schemas.refuse(7, "no".into(), now).is_final(&settings)
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
    fn an_id_that_was_given_up_is_asked_for_again_and_one_refusal_more_is_enough() {
        let mut settings = settings(2, Duration::ZERO);
        let mut schemas = schemas(2);
        schemas.refuse(7, "no".into(), Instant::now());
        assert!(schemas.known(7, &settings).is_none(), "once is not enough");
        schemas.refuse(7, "no".into(), Instant::now());
        assert!(schemas.known(7, &settings).is_some());
        settings.unknown_for = Duration::ZERO;
        assert!(schemas.known(7, &settings).is_none(), "some time later");
        let again = schemas.refuse(7, "no".into(), Instant::now());
        assert!(again.is_final(&settings));
    }

    #[test]
    fn the_registry_is_tried_with_the_latest_id_that_it_answered_for() {
        let mut schemas = schemas(9);
        assert_eq!(schemas.another(7), 1);
        assert_eq!(schemas.another(1), 2);
        schemas.insert(5, Known::Unknown(Instant::now()));
        schemas.insert(6, Known::Unknown(Instant::now()));
        schemas.refuse(8, "no".into(), Instant::now());
        assert_eq!(schemas.another(7), 6);
        assert_eq!(schemas.another(6), 5);
    }
}
