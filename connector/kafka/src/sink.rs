//! Output topics and the group's offsets as a sink.
//!
//! This end only asks and waits; see [`crate::delivery_thread`] for what is promised and how.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aligner_pipeline::{Delivery, DeliveryError, PartitionEpoch, Sink};
use tokio::sync::{mpsc, oneshot};

use crate::delivery_thread::{Call, DeliveryThread};

/// Output topics of a pipeline.
#[derive(Debug)]
pub struct KafkaSink {
    /// Gone once closed.
    calls: Option<mpsc::Sender<Call>>,
    closing: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
    close_timeout: Duration,
}

impl KafkaSink {
    pub(crate) fn start(
        thread: DeliveryThread,
        closing: Arc<AtomicBool>,
        close_timeout: Duration,
    ) -> std::io::Result<Self> {
        let (calls, todo) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("kafka-deliver".to_owned())
            .spawn(move || {
                thread.run(todo);
                drop(end);
            })?;
        Ok(Self {
            calls: Some(calls),
            closing,
            ended,
            close_timeout,
        })
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
    }
}

fn ended() -> DeliveryError {
    DeliveryError::Stopped("the thread that delivers has ended".to_owned())
}

impl Sink for KafkaSink {
    async fn deliver(
        &mut self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Arc<PartitionEpoch>>, DeliveryError> {
        let (answer, delivered) = oneshot::channel();
        self.calls
            .as_ref()
            .ok_or_else(ended)?
            .send(Call { deliveries, answer })
            .await
            .map_err(|_| ended())?;
        delivered.await.map_err(|_| ended())?
    }

    async fn close(mut self) {
        let timeout = self.close_timeout;
        self.closing.store(true, Ordering::Release);
        self.calls = None;
        let ended = tokio::time::timeout(timeout, &mut self.ended).await;
        if ended.is_err() {
            tracing::warn!(
                timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                "a delivery was still going on when its time was over; committed offsets tell \
                 how it ended"
            );
        }
    }
}
