//! Whether a list of brokers can be one. librdkafka takes any text and looks for the host for ever.

use crate::fault::Fault;

/// What may stand before `://`, in any case.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// What is wrong with `servers`, `host:port` of one or more brokers separated by commas.
pub(crate) fn problem(servers: &str) -> Option<Fault> {
    if servers.trim().is_empty() {
        return Some(Fault::with_fix(
            "is empty",
            "give host:port of at least one broker",
        ));
    }
    servers.split(',').map(str::trim).find_map(|server| {
        let cause = problem_of(server).err()?;
        Some(Fault::with_fix(
            format!("\"{server}\" {cause}"),
            "write host:port of each broker, separated by commas",
        ))
    })
}

fn problem_of(server: &str) -> Result<(), String> {
    let address = match server.split_once("://") {
        None => server,
        Some((protocol, rest)) if PROTOCOLS.contains(&protocol.to_lowercase().as_str()) => rest,
        Some((protocol, _)) => {
            return Err(format!("begins with {protocol}://, not Kafka's protocol"));
        }
    };
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("lacks a ]")?;
            (host, after.strip_prefix(':'))
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    if let Some(odd) = host
        .chars()
        .find(|c| c.is_whitespace() || "/?#@".contains(*c))
    {
        return Err(format!("has {odd:?} in its host"));
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(_) => Err("has no port from 1 to 65535 after its colon".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_librdkafka_can_use_are_taken() {
        for servers in [
            "localhost",
            "localhost:9092",
            "a:9092,b:9092, c.example:19092",
            "10.0.0.1:9092",
            "[::1]:9092",
            "SASL_SSL://broker-0.kafka.svc:9093",
        ] {
            assert_eq!(problem(servers), None, "{servers}");
        }
    }

    #[test]
    fn what_can_be_no_broker_is_named_with_the_fix() {
        for (servers, cause) in [
            ("", "is empty"),
            ("http://kafka:9092", "begins with http://"),
            ("a:9092,,b:9092", "\"\" has no host"),
            (":9092", "has no host"),
            ("kafka:9092/topic", "has no port"),
            ("kafka/topic", "'/' in its host"),
            ("kafka:0", "has no port"),
            ("kafka:99999", "has no port"),
            ("kafka:port", "has no port"),
            ("a:9092 b:9092", "has no port"),
            ("::1", "has no host"),
            ("[::1:9092", "lacks a ]"),
        ] {
            let found = problem(servers).expect(servers);
            assert!(found.message.contains(cause), "{servers}: {found}");
            let fix = found.fix.as_deref().unwrap_or_default();
            assert!(fix.contains("host:port"), "{servers}: {found}");
        }
    }
}
