//! The clients that are handed access tokens, and the present token.
//!
//! A token reaches a client from threads that do not own it. So each client stands here for as long as
//! it lives: its place is given up, under the lock, before it is destroyed, and whoever hands a token out
//! holds the lock meanwhile. Under the same lock a client that comes gets the present token, so that none
//! is left with an earlier one.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    ops::Deref,
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use rdkafka::{
    ClientContext,
    admin::AdminClient,
    bindings,
    consumer::{BaseConsumer, Consumer, ConsumerContext, StreamConsumer},
    producer::{FutureProducer, Producer, ProducerContext, ThreadedProducer},
};

use crate::login::AccessToken;

/// Something with one of librdkafka's clients inside, which lives as long as it does.
pub(crate) trait Native {
    fn native(&self) -> *mut bindings::rd_kafka_t;
}

impl<C: ConsumerContext> Native for BaseConsumer<C> {
    fn native(&self) -> *mut bindings::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ConsumerContext + 'static> Native for StreamConsumer<C> {
    fn native(&self) -> *mut bindings::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext + 'static> Native for ThreadedProducer<C> {
    fn native(&self) -> *mut bindings::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ClientContext + 'static> Native for FutureProducer<C> {
    fn native(&self) -> *mut bindings::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> Native for AdminClient<C> {
    fn native(&self) -> *mut bindings::rd_kafka_t {
        self.inner().native_ptr()
    }
}

/// Who gets tokens.
#[derive(Default)]
pub(crate) struct Roster(Mutex<Places>);

#[derive(Default)]
struct Places {
    token: Option<AccessToken>,
    clients: BTreeMap<u64, NonNull<bindings::rd_kafka_t>>,
    given: u64,
}

// SAFETY: librdkafka's handles may be used from any thread, and these are only used under the lock.
unsafe impl Send for Places {}

impl Roster {
    /// Gives a client its place, and the present token.
    pub(crate) fn list<C: Native>(self: &Arc<Self>, client: C) -> Listed<C> {
        let Some(native) = NonNull::new(client.native()) else {
            return Listed::unlisted(client);
        };
        let number = {
            let mut places = self.lock();
            if let Some(token) = &places.token {
                // SAFETY: the client is alive, and is ours.
                unsafe { hand(native, token) };
            }
            places.given += 1;
            let number = places.given;
            places.clients.insert(number, native);
            number
        };
        let place = Place {
            roster: Arc::clone(self),
            number,
        };
        Listed {
            _place: Some(place),
            client,
        }
    }

    /// From now on this is the token: every client gets it.
    pub(crate) fn renew(&self, token: AccessToken) {
        let mut places = self.lock();
        for client in places.clients.values() {
            // SAFETY: a client gives its place up before it is destroyed, for which it needs the lock.
            unsafe { hand(*client, &token) };
        }
        places.token = Some(token);
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client with its place, if it needs one.
pub(crate) struct Listed<C> {
    // Fields are dropped in this order: the place is given up before the client is destroyed.
    _place: Option<Place>,
    client: C,
}

impl<C> Listed<C> {
    /// One that needs no tokens.
    pub(crate) fn unlisted(client: C) -> Self {
        Self {
            _place: None,
            client,
        }
    }
}

impl<C> Deref for Listed<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.client
    }
}

/// A place on the roster, given up when it is dropped.
struct Place {
    roster: Arc<Roster>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.roster.lock().clients.remove(&self.number);
    }
}

/// Gives a client a token, for the connections that it opens from now on. One that is not taken is not
/// worth an end: the brokers refuse the client then, and say so.
///
/// # Safety
/// The client is alive for the length of the call.
unsafe fn hand(client: NonNull<bindings::rd_kafka_t>, token: &AccessToken) {
    let lifetime = token.expires_at.duration_since(UNIX_EPOCH).ok();
    let lifetime_ms = lifetime.and_then(|life| i64::try_from(life.as_millis()).ok());
    let text = |text: &str| CString::new(text).ok();
    let extensions: Option<Vec<_>> = token
        .extensions
        .iter()
        .flat_map(|(key, value)| [text(key), text(value)])
        .collect();
    let (Some(value), Some(principal), Some(lifetime_ms), Some(extensions)) = (
        text(&token.value),
        text(&token.principal),
        lifetime_ms,
        extensions,
    ) else {
        tracing::error!("an access token has a character or an end that no client takes");
        return;
    };
    let mut extensions: Vec<*const c_char> = extensions.iter().map(|text| text.as_ptr()).collect();
    let mut problem: [c_char; 512] = [0; 512];
    // SAFETY: the texts and the list of pointers to them live until the end of the call, which copies
    // them; the buffer has the size that is given.
    let code = unsafe {
        bindings::rd_kafka_oauthbearer_set_token(
            client.as_ptr(),
            value.as_ptr(),
            lifetime_ms,
            principal.as_ptr(),
            extensions.as_mut_ptr(),
            extensions.len(),
            problem.as_mut_ptr(),
            problem.len(),
        )
    };
    if code != bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        // SAFETY: librdkafka ends what it writes, within the buffer.
        let problem = unsafe { CStr::from_ptr(problem.as_ptr()) }.to_string_lossy();
        // It repeats the token where it is about its characters.
        let problem = if problem.contains(&token.value) {
            "it has characters that cannot be sent"
        } else {
            &*problem
        };
        tracing::debug!(problem, "a client did not take an access token");
    }
}
