//! Which topic stands behind each name, and when to ask for it again.
//!
//! A topic that was deleted and made again looks like the old one going on where its log soon is as long: its id
//! alone tells (KIP-516).

use std::time::{Duration, Instant};

use crate::native::TopicId;

/// Between two looks at one id: nobody makes a topic anew often, and a look costs a request.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same where the id was not to be had: the topic may be back as another.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

struct Known {
    topic: String,
    id: Option<TopicId>,
    next_look: Instant,
}

/// What is known of some topics.
pub(crate) struct Identities(Vec<Known>);

impl Identities {
    /// Of topics that are all to be looked at.
    pub(crate) fn of(topics: &[String], now: Instant) -> Self {
        let unknown = |topic: &String| Known {
            topic: topic.clone(),
            id: None,
            next_look: now,
        };
        Self(topics.iter().map(unknown).collect())
    }

    /// Asks for the id that has waited longest, if one is due; the topic, where it is another one now.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        ask: impl FnOnce(&str) -> Option<TopicId>,
    ) -> Option<&str> {
        let known = self.0.iter_mut().min_by_key(|known| known.next_look)?;
        if known.next_look > now {
            return None;
        }
        let Some(id) = ask(&known.topic) else {
            known.next_look = now + RETRY_INTERVAL;
            return None;
        };
        known.next_look = now + INTERVAL;
        let before = known.id.replace(id);
        before
            .is_some_and(|before| before != id)
            .then_some(&known.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_id_is_told_once_though_the_topic_was_gone_between() {
        let start = Instant::now();
        let mut identities = Identities::of(&["a".to_owned()], start);
        let [one, other] = [1, 2].map(|bits| Some(TopicId(bits, 0)));
        for (seconds, id, told) in [
            (0, one, None),
            // Not due.
            (9, other, None),
            (10, None, None),
            (11, other, Some("a")),
            (21, other, None),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(identities.look(now, |_| id), told, "{seconds}");
        }
    }

    #[test]
    fn a_topic_that_is_not_there_keeps_no_other_from_being_looked_at() {
        let start = Instant::now();
        let topics = ["gone", "there"].map(str::to_owned);
        let mut identities = Identities::of(&topics, start);
        let mut asked = Vec::new();
        for seconds in 0..4 {
            let now = start + Duration::from_secs(seconds);
            identities.look(now, |topic| {
                asked.push(topic.to_owned());
                (topic == "there").then_some(TopicId(1, 0))
            });
        }
        assert_eq!(asked, ["gone", "there", "gone", "gone"]);
    }
}
