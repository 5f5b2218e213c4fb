//! `errors.tolerance: none`: the first record that cannot be corrected stops the service, before
//! anything of it is written. Offsets stay before it, so nothing is lost.

use std::sync::Arc;

use aligner_pipeline::{Delivery, DeliveryError, OutputKind, PartitionEpoch, Sink};
use aligner_records::{CONNECT_HEADER_PREFIX, REASON_HEADER};

use crate::config::Tolerance;

/// A sink that delivers no dead letter where none is tolerated.
#[derive(Debug)]
pub struct Tolerant<K> {
    sink: K,
    tolerance: Tolerance,
}

impl<K> Tolerant<K> {
    /// Wraps a sink.
    pub fn new(sink: K, tolerance: Tolerance) -> Self {
        Self { sink, tolerance }
    }
}

impl<K: Sink> Sink for Tolerant<K> {
    async fn deliver(
        &mut self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Arc<PartitionEpoch>>, DeliveryError> {
        if self.tolerance == Tolerance::None
            && let Some(cause) = first_dead_letter(&deliveries)
        {
            return Err(DeliveryError::Stopped(cause));
        }
        self.sink.deliver(deliveries).await
    }

    async fn close(self) {
        self.sink.close().await;
    }
}

fn first_dead_letter(deliveries: &[Delivery]) -> Option<String> {
    let outbound = deliveries
        .iter()
        .flat_map(|delivery| &delivery.outputs)
        .find(|outbound| outbound.kind == OutputKind::DeadLetter)?;
    let header = |key: &str| {
        outbound
            .headers
            .iter()
            .rev()
            .find(|header| header.key == key)
            .and_then(|header| std::str::from_utf8(header.value.as_deref()?).ok())
            .unwrap_or("?")
    };
    let connect = |name: &str| header(&format!("{CONNECT_HEADER_PREFIX}{name}"));
    Some(format!(
        "record {}-{}-{} cannot be corrected ({}: {}) and errors.tolerance is none; mend or skip \
         it, or set errors.tolerance to all",
        connect("topic"),
        connect("partition"),
        connect("offset"),
        header(REASON_HEADER),
        connect("exception.message"),
    ))
}
