//! One connection through the proxy: requests one way, answers the other.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use super::{
    Shared, lock,
    rule::{Fault, Rule},
    wire::{self, RequestHeader},
};

/// The largest frame that the proxy carries.
const MAX_FRAME: usize = 64 << 20;

/// A request that was sent on, and the rule that its answer will meet.
type Sent = (RequestHeader, Option<Arc<Rule>>);

/// One connection of a client to a broker.
pub(super) struct Line {
    shared: Arc<Shared>,
    /// By correlation id.
    in_flight: Mutex<HashMap<i32, Sent>>,
    to_client: tokio::sync::Mutex<OwnedWriteHalf>,
}

impl Line {
    pub(super) fn new(shared: Arc<Shared>, to_client: OwnedWriteHalf) -> Self {
        Self {
            shared,
            in_flight: Mutex::default(),
            to_client: tokio::sync::Mutex::new(to_client),
        }
    }

    pub(super) async fn requests(
        self: Arc<Self>,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
    ) -> io::Result<()> {
        loop {
            let frame = read_frame(&mut from).await?;
            self.shared.wait_open().await?;
            let header = wire::request_header(&frame).map_err(malformed)?;
            let rule = self.shared.rule_for(header, &frame);
            let (mut on_answer, mut held) = (None, None);
            if let Some(rule) = rule {
                match rule.fault {
                    Fault::CutBefore => return Err(io::ErrorKind::ConnectionReset.into()),
                    Fault::LoseRequest => continue,
                    Fault::LateRequest(delay) => tokio::time::sleep(delay).await,
                    Fault::HoldRequest => {
                        rule.wait_released().await;
                        on_answer = Some(Arc::clone(&rule));
                        held = Some(rule);
                    }
                    Fault::Refuse(code) => {
                        let answer = wire::refusal(&frame, code)
                            .map_err(malformed)?
                            .unwrap_or_else(|| panic!("{} cannot be refused", header.api));
                        self.answer(&answer).await?;
                        continue;
                    }
                    Fault::LoseResponse
                    | Fault::SwallowResponse
                    | Fault::LateResponse(_)
                    | Fault::NoBrokers
                    | Fault::HoldResponse => on_answer = Some(rule),
                }
            }
            lock(&self.in_flight).insert(header.correlation, (header, on_answer));
            write_frame(&mut to, &frame).await?;
            if let Some(rule) = held {
                // The client has often hung up by now, which would end this line before the answer.
                rule.wait_applied().await;
            }
        }
    }

    pub(super) async fn responses(self: Arc<Self>, mut from: OwnedReadHalf) -> io::Result<()> {
        loop {
            let mut frame = read_frame(&mut from).await?;
            self.shared.wait_open().await?;
            let correlation = wire::correlation(&frame).map_err(malformed)?;
            let Some((header, rule)) = lock(&self.in_flight).remove(&correlation) else {
                return Err(malformed(wire::Malformed));
            };
            *lock(&self.shared.answered_bytes)
                .entry(header.api)
                .or_default() += frame.len() as u64;
            if let Some(rule) = rule {
                rule.note_applied();
                match rule.fault {
                    Fault::LoseResponse => return Err(io::ErrorKind::ConnectionReset.into()),
                    Fault::SwallowResponse => continue,
                    Fault::LateResponse(delay) => tokio::time::sleep(delay).await,
                    Fault::HoldResponse => rule.wait_released().await,
                    Fault::NoBrokers => {
                        frame = wire::without_brokers(header, &frame).map_err(malformed)?;
                    }
                    _ => {}
                }
            }
            let answer = wire::rewrite(header.api, header.version, &frame, &mut |host, port| {
                self.route_name(host, port)
            })
            .map_err(malformed)?;
            self.answer(&answer).await?;
        }
    }

    fn route_name(&self, host: &str, port: i32) -> (String, i32) {
        let address = format!("{host}:{port}").parse();
        match address {
            Ok(broker) => {
                let own = self.shared.route(broker);
                (own.ip().to_string(), i32::from(own.port()))
            }
            // The harness's brokers advertise numbers; a name is left as it is.
            Err(_) => (host.to_owned(), port),
        }
    }

    async fn answer(&self, frame: &[u8]) -> io::Result<()> {
        write_frame(&mut *self.to_client.lock().await, frame).await
    }
}

async fn read_frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_i32().await?).map_err(io::Error::other)?;
    if length > MAX_FRAME {
        return Err(io::Error::other(
            "a frame is longer than any that Kafka sends",
        ));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(to: &mut OwnedWriteHalf, frame: &[u8]) -> io::Result<()> {
    let length = i32::try_from(frame.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(frame).await
}

fn malformed(_: wire::Malformed) -> io::Error {
    // Loud, because a frame that the proxy cannot read makes every later finding worthless.
    eprintln!("proxy: a frame is not what the protocol says; the connection is cut");
    io::ErrorKind::InvalidData.into()
}
