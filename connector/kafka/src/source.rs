//! The consumer group as a source of records.
//!
//! This end only takes what the polling thread has put down; see [`crate::consumer_thread`] for
//! the other. `stop` ends the records and keeps the membership, `close` leaves the group.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aligner_pipeline::{Flow, Source, SourceError, SourceEvent};
use tokio::sync::oneshot;

use crate::{consumer_thread::ConsumerThread, handoff::Handoff};

/// Records of a consumer group.
#[derive(Debug)]
pub struct KafkaSource {
    handoff: Arc<Handoff>,
    closing: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
    close_timeout: Duration,
}

impl KafkaSource {
    pub(crate) fn start(
        thread: ConsumerThread,
        handoff: Arc<Handoff>,
        closing: Arc<AtomicBool>,
        close_timeout: Duration,
    ) -> std::io::Result<Self> {
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("kafka-poll".to_owned())
            .spawn({
                let last_word = LastWord(Arc::clone(&handoff));
                move || {
                    thread.run();
                    drop(last_word);
                    drop(end);
                }
            })?;
        Ok(Self {
            handoff,
            closing,
            ended,
            close_timeout,
        })
    }
}

/// Tells the pipeline when the thread ends in a way that nobody foresaw.
struct LastWord(Arc<Handoff>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end(Some(SourceError {
                message: "the thread that reads from kafka panicked".to_owned(),
            }));
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl Source for KafkaSource {
    async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
        self.handoff.next().await
    }

    fn flow(&mut self, flow: Flow) {
        self.handoff.set_flow(flow);
    }

    fn stop(&mut self) {
        self.handoff.stop();
    }

    async fn close(mut self) {
        self.closing.store(true, Ordering::Release);
        self.handoff.stop();
        let ended = tokio::time::timeout(self.close_timeout, &mut self.ended).await;
        if ended.is_err() {
            tracing::warn!(
                timeout_ms = u64::try_from(self.close_timeout.as_millis()).unwrap_or(u64::MAX),
                "the consumer group was not left in time; the broker notices by itself"
            );
        }
    }
}
