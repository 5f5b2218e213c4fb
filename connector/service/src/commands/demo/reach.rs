//! Whether anybody listens where brokers are said to be.
//!
//! librdkafka looks for a broker for as long as it is let, and says nothing of it; whoever misspelt an
//! address would sit before a silent screen.

use std::time::Duration;

use anyhow::bail;
use futures::future::select_ok;
use tokio::{net::TcpStream, time::timeout};

/// A broker that is there takes a connection in a fraction of it.
const LIMIT: Duration = Duration::from_secs(3);
/// What librdkafka takes where no port is given.
const USUAL_PORT: u16 = 9092;

/// Connects to one of `servers`, which are separated by commas.
///
/// # Errors
/// If none of them takes a connection in time.
pub async fn any_of(servers: &str) -> anyhow::Result<()> {
    let attempts = servers
        .split(',')
        .map(|server| Box::pin(TcpStream::connect(address(server))));
    let cause = match timeout(LIMIT, select_ok(attempts)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing within {} s", LIMIT.as_secs()),
    };
    bail!(
        "no broker answers at {servers} (--bootstrap-servers): {cause}; is it running, and does it \
         let this machine in?"
    )
}

/// Host and port of a server whose form was judged already.
fn address(server: &str) -> (&str, u16) {
    let server = server.trim();
    let server = server
        .split_once("://")
        .map_or(server, |(_, address)| address);
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or((rest, "")),
        None => server.split_once(':').unwrap_or((server, "")),
    };
    let port = port.trim_start_matches(':').parse().unwrap_or(USUAL_PORT);
    (host, port)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn servers_are_read_as_librdkafka_reads_them() {
        for (server, host, port) in [
            ("localhost", "localhost", 9092),
            (" kafka:19092", "kafka", 19092),
            ("PLAINTEXT://kafka:1", "kafka", 1),
            ("[::1]:9093", "::1", 9093),
            ("[::1]", "::1", 9092),
        ] {
            assert_eq!(address(server), (host, port), "{server}");
        }
    }

    #[tokio::test]
    async fn one_server_that_listens_is_enough_and_none_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let listens = listener.local_addr().expect("it is bound").to_string();
        let other = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let silent = other.local_addr().expect("it is bound").to_string();
        drop(other);
        any_of(&format!("{silent}, {listens}"))
            .await
            .expect("the second one listens");
        let error = any_of(&silent).await.expect_err("nobody listens");
        let said = format!("no broker answers at {silent} (--bootstrap-servers)");
        assert!(error.to_string().starts_with(&said), "{error}");
    }
}
