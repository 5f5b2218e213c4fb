//! Where figures were taken: they mean little without it.

use std::{fs, process::Command};

use serde_json::{Value, json};

/// Instruction sets that make a difference to engine, compression or checksums.
const FEATURES: [&str; 8] = [
    "avx2",
    "fma",
    "f16c",
    "vaes",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
];

/// Machine and versions, as names and values.
pub fn describe() -> Vec<(&'static str, String)> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let flags = field("flags");
    let has: Vec<_> = FEATURES
        .into_iter()
        .filter(|feature| flags.split_whitespace().any(|flag| flag == *feature))
        .collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    vec![
        (
            "cpu",
            format!(
                "{}, family {} model {}",
                field("model name"),
                field("cpu family"),
                field("model\t")
            ),
        ),
        ("cores", cores.to_string()),
        ("cpu features", has.join(" ")),
        (
            "memory",
            format!("{:.0} GiB", memory as f64 / 1024.0 / 1024.0),
        ),
        (
            "load before",
            load.split(' ').next().unwrap_or_default().to_owned(),
        ),
        ("connector", env!("CARGO_PKG_VERSION").to_owned()),
        ("librdkafka", librdkafka),
        ("kafka", kafka_version()),
        ("java", first_line(Command::new("java").arg("-version"))),
    ]
}

/// The same as JSON.
pub fn as_json(machine: &[(&'static str, String)]) -> Value {
    machine
        .iter()
        .map(|(name, value)| (name.replace(' ', "_"), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The version that the harness starts brokers of.
fn kafka_version() -> String {
    let pom = include_str!("../kafka/pom.xml");
    let version = pom.split("<kafka.version>").nth(1);
    version
        .and_then(|rest| rest.split('<').next())
        .unwrap_or_default()
        .to_owned()
}

fn first_line(command: &mut Command) -> String {
    let Ok(done) = command.output() else {
        return String::new();
    };
    let text = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}
