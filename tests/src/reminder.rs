//! Names the brokers again to clients that outlive them.
//!
//! Where a cluster shows no broker for a moment, librdkafka drops all that it knows, and may
//! then ask nobody any more (seen with 2.12.1). Tests hurt brokers, and their own clients must not be what fails.

use std::{
    ffi::CString,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, ClientContext, bindings, client::Client};

/// Between two reminders. The library keeps each of them.
const PAUSE: Duration = Duration::from_secs(3);

/// For one client, or several of the same cluster.
#[derive(Debug)]
pub struct Reminder {
    servers: CString,
    last: Mutex<Instant>,
}

impl Reminder {
    /// For clients with these settings.
    pub fn of(settings: &ClientConfig) -> Self {
        let servers = settings.get("bootstrap.servers").unwrap_or_default();
        Self {
            servers: CString::new(servers).expect("addresses have no NUL"),
            last: Mutex::new(Instant::now()),
        }
    }

    /// Whether it is time to remind them, to be asked while they get nothing.
    pub fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.elapsed() >= PAUSE;
        if due {
            *last = Instant::now();
        }
        due
    }

    /// They got something.
    pub fn postpone(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Reminds one of them. Brokers that it knows stay as they are.
    pub fn remind<C: ClientContext>(&self, client: &Client<C>) {
        // SAFETY: the client lives as long as the reference to it; the library copies the list.
        unsafe { bindings::rd_kafka_brokers_add(client.native_ptr(), self.servers.as_ptr()) };
    }
}
