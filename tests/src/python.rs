//! Confluent's Python client, as an independent writer and reader of registered Avro.
//!
//! It lives in a virtual environment under `target`, made once by `tests/kafka/fetch.sh`.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;

use crate::{
    kafka::fetch,
    scratch::{downloads, workspace},
};

/// Avro in the Confluent wire format, by Confluent's own code.
#[derive(Debug, Clone)]
pub struct Avro {
    registry: String,
}

impl Avro {
    /// With the registry at `url`.
    pub fn with(url: &str) -> Self {
        Self {
            registry: url.to_owned(),
        }
    }

    /// Encodes events with the schema in `schema`, registering it under `subject`.
    pub fn encode(&self, subject: &str, schema: &Path, events: &[Value]) -> Vec<Vec<u8>> {
        let schema = schema.display().to_string();
        let lines: Vec<_> = events.iter().map(Value::to_string).collect();
        self.run(&["encode", &self.registry, subject, &schema], lines)
            .iter()
            .map(|line| from_base64(line))
            .collect()
    }

    /// Decodes framed values.
    pub fn decode(&self, values: &[Vec<u8>]) -> Vec<Value> {
        let lines: Vec<_> = values.iter().map(|value| to_base64(value)).collect();
        self.run(&["decode", &self.registry], lines)
            .iter()
            .map(|line| serde_json::from_str(line).expect("the script prints JSON"))
            .collect()
    }

    fn run(&self, arguments: &[&str], lines: Vec<String>) -> Vec<String> {
        fetch("all");
        let mut child = Command::new(downloads().join("python-avro/bin/python"))
            .arg(workspace().join("tests/registry/avro.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the fetch script made the environment");
        let mut input = child.stdin.take().expect("stdin was asked for");
        // On a thread of its own: the script answers while it reads, and pipes are short.
        let expected = lines.len();
        let writer = thread::spawn(move || {
            for line in lines {
                // A script that stopped early tells why on stderr.
                if writeln!(input, "{line}").is_err() {
                    return;
                }
            }
        });
        let done = child
            .wait_with_output()
            .expect("our own child can be waited for");
        writer.join().expect("writing lines does not panic");
        assert!(
            done.status.success(),
            "avro.py {}: {}",
            arguments[0],
            String::from_utf8_lossy(&done.stderr)
        );
        let found: Vec<_> = String::from_utf8(done.stdout)
            .expect("the script prints ASCII")
            .lines()
            .map(str::to_owned)
            .collect();
        assert_eq!(found.len(), expected, "one line for each");
        found
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .enumerate()
            .fold(0_u32, |group, (index, &byte)| {
                group | u32::from(byte) << (16 - 8 * index)
            });
        for index in 0..4 {
            if index <= chunk.len() {
                text.push(char::from(
                    ALPHABET[(group >> (18 - 6 * index)) as usize & 63],
                ));
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut group = 0_u32;
    let mut bits = 0;
    for symbol in text.bytes().filter(|&symbol| symbol != b'=') {
        let value = ALPHABET
            .iter()
            .position(|&known| known == symbol)
            .expect("the script prints base64");
        group = group << 6 | u32::try_from(value).expect("six bits");
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(group >> bits & 0xff).expect("eight bits"));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_keeps_every_byte_and_knows_the_standards_examples() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xff\x00\xfe", "/wD+"),
        ] {
            assert_eq!(to_base64(bytes), text);
            assert_eq!(from_base64(text), bytes);
        }
    }
}
