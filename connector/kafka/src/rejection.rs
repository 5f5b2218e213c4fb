//! Brokers that refuse our login, or a certificate, after they had let us in.
//!
//! At the start that is a finding of the preflight. Later it means that a password or a certificate
//! was rotated. Both are read at the start: no waiting helps, and the process looks alive. So it
//! ends, and whoever starts it again reads the new ones. Brokers that are merely away are waited for
//! without end, and one that refuses while it starts has as long as a session lasts.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use crate::listener::ClientFault;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks whether we are shut out for good.
#[derive(Debug)]
pub(crate) struct Rejection {
    patience: Duration,
    next_look: Option<Instant>,
    /// Since when no broker was up.
    alone_since: Option<Instant>,
    /// When one refused us first, since then.
    refused_first: Option<Instant>,
}

impl Rejection {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            next_look: None,
            alone_since: None,
            refused_first: None,
        }
    }

    /// Whether it is time for a look.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next_look.is_none_or(|next| now >= next);
        if due {
            self.next_look = Some(now + LOOK_INTERVAL);
        }
        due
    }

    /// Takes in how many brokers are up and the last fault, and says so once we are shut out.
    pub(crate) fn look(
        &mut self,
        brokers_up: usize,
        fault: Option<&ClientFault>,
        now: Instant,
    ) -> Option<String> {
        if brokers_up > 0 {
            self.alone_since = None;
            self.refused_first = None;
            return None;
        }
        let since = *self.alone_since.get_or_insert(now);
        // What was refused before then was let in since.
        let fault = fault.filter(|fault| fault.at >= since && is_rejection(fault))?;
        // The first broker that is back may refuse once, and be away again: only who goes on to.
        let first = *self.refused_first.get_or_insert(fault.at);
        let lasted = fault.at.duration_since(first);
        (lasted > self.patience).then(|| {
            format!(
                "no broker lets this client in any more, for {} s now: {}; passwords and \
                 certificates are read at the start: put the right ones in place and start again",
                lasted.as_secs(),
                fault.reason
            )
        })
    }
}

/// Whether a fault is about who we are, or whom we trust. A handshake of TLS also breaks where a broker
/// is away behind a proxy.
fn is_rejection(fault: &ClientFault) -> bool {
    match fault.code {
        RDKafkaErrorCode::SSL => fault.reason.contains("certificate"),
        _ => fault.is_refused_login(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(45);
    const LOGIN: (RDKafkaErrorCode, &str) = (
        RDKafkaErrorCode::Authentication,
        "SASL authentication error: wrong password",
    );

    #[test]
    fn only_a_refusal_that_outlasts_a_session_with_no_broker_up_ends_the_process() {
        /// Second, brokers up, the last fault and its second, and whether that is the end.
        type Look = (
            u64,
            usize,
            Option<((RDKafkaErrorCode, &'static str), u64)>,
            bool,
        );
        let broken = (RDKafkaErrorCode::SSL, "SSL handshake failed: Disconnected");
        let expired = (
            RDKafkaErrorCode::SSL,
            "SSL handshake failed: certificate expired",
        );
        let lost = (
            RDKafkaErrorCode::Authentication,
            "SASL PLAIN mechanism handshake failed: Local: Broker transport failure",
        );
        let down = (RDKafkaErrorCode::AllBrokersDown, "3/3 brokers are down");
        let stories: [(&str, &[Look]); 8] = [
            (
                "a rotated password",
                &[
                    (0, 0, Some((LOGIN, 0)), false),
                    (45, 0, Some((LOGIN, 40)), false),
                    (60, 0, Some((LOGIN, 46)), true),
                ],
            ),
            (
                "an expired certificate",
                &[
                    (0, 0, None, false),
                    (50, 0, Some((expired, 10)), false),
                    (60, 0, Some((expired, 56)), true),
                ],
            ),
            (
                "one refusal by the first broker that is back",
                &[
                    (0, 0, None, false),
                    (300, 0, Some((LOGIN, 299)), false),
                    (400, 0, Some((LOGIN, 299)), false),
                ],
            ),
            (
                "brokers that go away in the handshake",
                &[
                    (0, 0, Some((lost, 0)), false),
                    (99, 0, Some((lost, 98)), false),
                ],
            ),
            (
                "brokers that are away",
                &[(0, 0, None, false), (999, 0, Some((down, 900)), false)],
            ),
            (
                "a proxy before a broker that is away",
                &[(0, 0, None, false), (999, 0, Some((broken, 900)), false)],
            ),
            (
                "refused long ago, let in since, and away now",
                &[
                    (0, 0, Some((LOGIN, 0)), false),
                    (10, 1, Some((LOGIN, 5)), false),
                    (100, 0, Some((LOGIN, 5)), false),
                    (300, 0, Some((LOGIN, 5)), false),
                ],
            ),
            (
                "one of three brokers still lets us in",
                &[
                    (0, 1, Some((LOGIN, 0)), false),
                    (90, 1, Some((LOGIN, 89)), false),
                ],
            ),
        ];
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        for (story, looks) in stories {
            let mut rejection = Rejection::new(PATIENCE);
            for &(second, brokers_up, fault, ends) in looks {
                let fault = fault.map(|((code, reason), heard)| ClientFault {
                    code,
                    reason: reason.to_owned(),
                    at: at(heard),
                });
                let verdict = rejection.look(brokers_up, fault.as_ref(), at(second));
                assert_eq!(verdict.is_some(), ends, "{story}, second {second}");
            }
        }
    }

    #[test]
    fn the_verdict_gives_the_brokers_words_and_what_to_do() {
        let start = Instant::now();
        let fault = |at| ClientFault {
            code: LOGIN.0,
            reason: LOGIN.1.to_owned(),
            at,
        };
        let mut rejection = Rejection::new(PATIENCE);
        assert_eq!(rejection.look(0, Some(&fault(start)), start), None);
        let later = start + Duration::from_secs(50);
        let said = rejection
            .look(0, Some(&fault(later)), later)
            .expect("shut out");
        assert!(said.contains("for 50 s now: SASL authentication error: wrong password; "));
        assert!(said.ends_with("put the right ones in place and start again"));
    }

    #[test]
    fn a_look_is_due_once_a_second() {
        let start = Instant::now();
        let mut rejection = Rejection::new(PATIENCE);
        assert!(rejection.is_due(start));
        assert!(!rejection.is_due(start + LOOK_INTERVAL / 2));
        assert!(rejection.is_due(start + LOOK_INTERVAL));
    }
}
