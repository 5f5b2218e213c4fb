//! What librdkafka tells us on the side: its log, its errors, its statistics.
//!
//! While brokers are away it repeats itself twenty times a second, and each thing is said as
//! [`RepeatFilter`] admits it. The last grave error is kept for those who wait for a connection and must
//! name why there is none.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use rdkafka::{
    ClientConfig, ClientContext,
    client::Client,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::{
    reminder::Reminder, repeats::RepeatFilter, report::Report, resets::Reset,
    stats::ReportingClient,
};

/// A grave error that a client reported.
#[derive(Debug, Clone)]
pub(crate) struct ClientFault {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) reason: String,
    pub(crate) at: Instant,
}

impl ClientFault {
    /// Whether a login was refused. Handshakes also break where a broker goes away meanwhile; librdkafka
    /// then gives an error of its own ("Local: …").
    pub(crate) fn is_refused_login(&self) -> bool {
        let is_about_login = matches!(
            self.code,
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism
        );
        is_about_login && !self.reason.contains("Local: ")
    }
}

/// Listens to one client.
#[derive(Debug)]
pub(crate) struct Listener {
    client: &'static str,
    reports: Option<ReportingClient>,
    reminder: Reminder,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    repeats: RepeatFilter,
    fault: Option<ClientFault>,
}

impl Listener {
    /// For a client that is made with these properties.
    pub(crate) fn new(
        client: &'static str,
        reports: Option<ReportingClient>,
        config: &ClientConfig,
    ) -> Self {
        Self {
            client,
            reports,
            reminder: Reminder::new(client, config),
            heard: Mutex::default(),
        }
    }

    /// The last fault reported, most telling first: a refused password outlives the broken
    /// connections that follow from it.
    pub(crate) fn fault(&self) -> Option<ClientFault> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fault
            .clone()
    }

    /// To be called again and again by those who use the client; see [`Reminder`].
    pub(crate) fn remind<C: ClientContext>(&self, client: &Client<C>) {
        self.reminder.remind(client);
    }

    /// The same for those who get no answer, and keep reports from coming meanwhile.
    pub(crate) fn remind_anyway<C: ClientContext>(&self, client: &Client<C>) {
        self.reminder.remind_anyway(client);
    }

    fn admit(&self, thing: &str) -> Option<u64> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .repeats
            .admit(thing, Instant::now())
    }
}

/// How much a fault tells. That all brokers are down follows from every other one, and the end of a
/// connection at least names its broker and what happened there.
fn weight(code: RDKafkaErrorCode) -> u8 {
    match code {
        RDKafkaErrorCode::AllBrokersDown => 0,
        RDKafkaErrorCode::BrokerTransportFailure => 1,
        _ => 2,
    }
}

/// Said again by the error callback, with a code.
fn is_also_an_error(facility: &str) -> bool {
    facility == "FAIL"
}

/// Secrets never reach librdkafka's messages, but its hints about properties can repeat values.
fn is_about_configuration(facility: &str) -> bool {
    facility.starts_with("CONF")
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = self.client;
        if is_about_configuration(facility) {
            tracing::debug!(client, facility, "librdkafka has a remark about a property");
            return;
        }
        if is_also_an_error(facility) {
            tracing::debug!(client, facility, "librdkafka: {message}");
            return;
        }
        if facility == "OFFSET"
            && matches!(level, RDKafkaLogLevel::Warning)
            && let Some(reset) = Reset::read(message)
            && let Some(reports) = &self.reports
        {
            // The only trace of records that retention deleted unread.
            reports.take_reset(reset);
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                if let Some(unsaid) = self.admit(facility) {
                    tracing::warn!(client, facility, unsaid, "librdkafka: {message}");
                }
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::debug!(client, facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Debug => tracing::trace!(client, facility, "librdkafka: {message}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Some(report) = Report::read(statistics) else {
            return;
        };
        self.reminder.take_report(&report);
        if let Some(reports) = &self.reports {
            reports.take_report(report);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let known = heard.fault.as_ref().map(|fault| weight(fault.code));
            if known.is_none_or(|known| weight(code) >= known) {
                heard.fault = Some(ClientFault {
                    code,
                    reason: reason.to_owned(),
                    at: Instant::now(),
                });
            }
        }
        if let Some(unsaid) = self.admit(&format!("{code:?}")) {
            tracing::warn!(
                client = self.client,
                error = ?code,
                unsaid,
                "connection to kafka: {reason}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fault_that_tells_most_is_kept_and_of_those_that_tell_as_much_the_last() {
        use RDKafkaErrorCode::{
            AllBrokersDown, Authentication, BrokerTransportFailure, Resolve, SSL,
        };
        let refused = (BrokerTransportFailure, "Connection refused");
        let down = (AllBrokersDown, "1/1 brokers are down");
        let password = (Authentication, "wrong password");
        let certificate = (SSL, "certificate expired");
        for (faults, kept) in [
            (vec![down], down),
            (vec![down, refused], refused),
            // Waiting for a broker, with the cause at first and then again and again without.
            (vec![refused, down, down], refused),
            (
                vec![(BrokerTransportFailure, "Disconnected"), refused],
                refused,
            ),
            (vec![password, refused, down], password),
            (vec![refused, password, down], password),
            (vec![password, certificate], certificate),
            (
                vec![(Resolve, "no such host"), down],
                (Resolve, "no such host"),
            ),
        ] {
            let listener = Listener::new("consumer", None, &ClientConfig::new());
            for (code, reason) in &faults {
                listener.error(KafkaError::Global(*code), reason);
            }
            let fault = listener.fault().expect("it heard some");
            assert_eq!((fault.code, &*fault.reason), kept, "{faults:?}");
        }
    }
}
