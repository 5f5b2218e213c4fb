//! Models by Hugging Face id, from a server on this machine that answers as the hub does.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::json;
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILES: [&str; 4] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "model.safetensors",
];

const INDEX: &str = "model.safetensors.index.json";
const BINARY: &str = env!("CARGO_BIN_EXE_aligner-connector");

/// The engine's tiny Llama.
fn tiny() -> HashMap<&'static str, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures/llama2");
    FILES
        .iter()
        .map(|name| (*name, fs::read(folder.join(name)).expect("a fixture")))
        .collect()
}

/// A hub that holds a checkpoint as `acme/tiny`, and counts what it is asked.
struct FakeHub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeHub {
    /// `damaged` is a file of which it sends other bytes than it promises.
    fn start(damaged: Option<&'static str>) -> Self {
        Self::holding(tiny(), damaged)
    }

    fn holding(files: HashMap<&'static str, Vec<u8>>, damaged: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &files, damaged, &log);
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("no thread panicked"))
    }
}

/// Answers one request and closes.
fn answer(
    mut stream: TcpStream,
    files: &HashMap<&str, Vec<u8>>,
    damaged: Option<&str>,
    log: &Mutex<Vec<String>>,
) {
    let mut head = BufReader::new(&stream).lines().map_while(Result::ok);
    let line = head.next().expect("a request");
    let authorized = head
        .take_while(|line| !line.is_empty())
        .any(|line| line.eq_ignore_ascii_case("authorization: Bearer let-me-in"));
    let path = line.split(' ').nth(1).expect("a path").to_owned();
    log.lock().expect("no thread panicked").push(path.clone());
    let siblings = || -> Vec<_> {
        files
            .iter()
            .map(|(name, bytes)| {
                let digest = Sha256::digest(bytes);
                let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                let lfs = name
                    .ends_with(".safetensors")
                    .then(|| json!({"sha256": sha256}));
                json!({"rfilename": name, "lfs": lfs})
            })
            .collect()
    };
    let resolved = path.strip_prefix(&format!("/acme/tiny/resolve/{COMMIT}/"));
    let (status, body) = match path.as_str() {
        "/api/models/acme/tiny/revision/main?blobs=true" => (
            200,
            json!({"sha": COMMIT, "siblings": siblings()})
                .to_string()
                .into_bytes(),
        ),
        path if path == format!("/api/models/acme/tiny/revision/{COMMIT}?blobs=true") => (
            200,
            json!({"sha": COMMIT, "siblings": siblings()})
                .to_string()
                .into_bytes(),
        ),
        "/api/models/acme/gated/revision/main?blobs=true" if !authorized => (401, Vec::new()),
        _ => match resolved.and_then(|name| files.get_key_value(name)) {
            Some((name, bytes)) => {
                let mut bytes = bytes.clone();
                if damaged == Some(*name) {
                    bytes[100] ^= 1;
                }
                (200, bytes)
            }
            None => (404, Vec::new()),
        },
    };
    // A client that went away is its own matter.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .and_then(|()| stream.write_all(&body));
}

/// `correct --raw` of one prompt, with the cache in `home`.
fn correct(model: &str, home: &Path, endpoint: &str, offline: bool) -> Output {
    let binary = Command::new(BINARY);
    correct_by(binary, model, home, endpoint, offline)
}

/// The same by a command that runs the binary.
fn correct_by(
    mut binary: Command,
    model: &str,
    home: &Path,
    endpoint: &str,
    offline: bool,
) -> Output {
    let input = home.join("input.jsonl");
    fs::write(&input, "{\"event_id\": \"a\", \"prompt\": \"What is\"}\n").expect("written");
    binary
        .args([
            "correct",
            "--raw",
            "--max-new-tokens",
            "4",
            "--model",
            model,
        ])
        .arg("--input")
        .arg(&input)
        .env_clear()
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", endpoint)
        // As a Python program writes it: to Hugging Face's tools it is false.
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "False" })
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn snapshot(home: &Path) -> PathBuf {
    home.join("hub/models--acme--tiny/snapshots").join(COMMIT)
}

#[test]
fn a_model_is_fetched_once_and_found_again_without_the_hub() {
    let hub = FakeHub::start(None);
    let home = tempfile::tempdir().expect("a temporary folder");
    let first = correct("acme/tiny@main", home.path(), &hub.url, false);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(text(&first.stdout).contains("\"token_ids\":["));
    // The branch is named with the commit that it stands for.
    let pinned = format!("acme/tiny@{COMMIT}");
    assert!(
        text(&first.stderr).contains(&pinned),
        "{}",
        text(&first.stderr)
    );
    assert_eq!(hub.asked().len(), 1 + FILES.len());
    for name in FILES {
        assert!(snapshot(home.path()).join(name).is_file(), "{name}");
    }

    let again = correct(&pinned, home.path(), &hub.url, false);
    assert_eq!(text(&again.stdout), text(&first.stdout));
    assert_eq!(
        hub.asked(),
        Vec::<String>::new(),
        "a commit that is here costs no request"
    );

    let nowhere = "http://127.0.0.1:1";
    for model in ["acme/tiny@main", pinned.as_str()] {
        let offline = correct(model, home.path(), nowhere, true);
        assert_eq!(
            text(&offline.stdout),
            text(&first.stdout),
            "{model} offline"
        );
    }
}

/// The checkpoint as one shard with an index that says so.
fn sharded(shard: &'static str) -> HashMap<&'static str, Vec<u8>> {
    let mut files = tiny();
    let weights = files.remove("model.safetensors").expect("a fixture");
    let index = json!({"weight_map": {"model.norm.weight": shard}});
    files.insert(INDEX, index.to_string().into_bytes());
    files.insert(shard, weights);
    files
}

#[test]
fn a_second_copy_of_the_weights_is_not_fetched() {
    let shard = "model-00001-of-00001.safetensors";
    let (single, second) = ("model.safetensors", "consolidated.safetensors");
    // The single file is taken before an index, which may be of former shards.
    for (also, taken, left) in [
        (vec![second], shard, vec![second]),
        (vec![second, single], single, vec![second, shard]),
    ] {
        let mut files = sharded(shard);
        for name in also {
            files.insert(name, files[shard].clone());
        }
        let hub = FakeHub::holding(files, None);
        let home = tempfile::tempdir().expect("a temporary folder");
        let pinned = format!("acme/tiny@{COMMIT}");
        let first = correct(&pinned, home.path(), &hub.url, false);
        assert!(first.status.success(), "{}", text(&first.stderr));
        let asked = hub.asked();
        let was_asked = |name: &str| {
            let end = format!("/{name}");
            asked.iter().any(|path| path.ends_with(&end))
        };
        assert!(was_asked(taken), "{asked:?}");
        for name in left {
            assert!(!was_asked(name), "{asked:?}");
            assert!(!snapshot(home.path()).join(name).exists(), "{name}");
        }

        let again = correct(&pinned, home.path(), &hub.url, false);
        assert_eq!(text(&again.stdout), text(&first.stdout));
        assert_eq!(hub.asked(), Vec::<String>::new());
    }
}

/// What transformers fetches of a model that has an `aligner.json` too.
fn fetched_by_transformers(home: &Path) -> PathBuf {
    let folder = snapshot(home);
    fs::create_dir_all(&folder).expect("created");
    for (name, bytes) in tiny() {
        fs::write(folder.join(name), bytes).expect("written");
    }
    folder
}

#[test]
fn what_another_tool_left_out_is_fetched_once_and_warned_of_offline() {
    let profile = r#"{"name": "tiny", "template": "<q>{question}<a>{answer}<c>"}"#;
    let mut files = tiny();
    files.insert("aligner.json", profile.as_bytes().to_vec());
    let hub = FakeHub::holding(files, None);
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = fetched_by_transformers(home.path());
    let pinned = format!("acme/tiny@{COMMIT}");
    let nowhere = "http://127.0.0.1:1";
    let warns = |offline: &Output| {
        let warning = r#""missing":"aligner.json""#;
        assert!(offline.status.success(), "{}", text(&offline.stderr));
        text(&offline.stderr).contains(warning)
    };
    assert!(warns(&correct(&pinned, home.path(), nowhere, true)));

    let online = correct(&pinned, home.path(), &hub.url, false);
    assert!(online.status.success(), "{}", text(&online.stderr));
    let expected = [
        format!("/api/models/acme/tiny/revision/{COMMIT}?blobs=true"),
        format!("/acme/tiny/resolve/{COMMIT}/aligner.json"),
    ];
    assert_eq!(hub.asked(), expected);
    assert!(folder.join("aligner.json").is_file());
    correct(&pinned, home.path(), &hub.url, false);
    assert_eq!(hub.asked(), Vec::<String>::new());
    assert!(!warns(&correct(&pinned, home.path(), nowhere, true)));
}

#[test]
fn a_pinned_commit_that_is_here_starts_though_what_is_missing_cannot_be_fetched_or_written() {
    let mut files = tiny();
    files.insert("aligner.json", b"{}".to_vec());
    let hub = FakeHub::holding(files, None);
    let home = tempfile::tempdir().expect("a temporary folder");
    fetched_by_transformers(home.path());
    let pinned = format!("acme/tiny@{COMMIT}");
    // No file may grow: that holds for root too, whom permissions do not stop.
    let script = r#"trap '' XFSZ && ulimit -f 0 && exec "$0" "$@""#;
    let mut unwritable = Command::new("/bin/sh");
    unwritable.arg("-c").arg(script).arg(BINARY);
    for (done, error) in [
        (
            correct(&pinned, home.path(), "http://127.0.0.1:1", false),
            "asking http://127.0.0.1:1",
        ),
        (
            correct_by(unwritable, &pinned, home.path(), &hub.url, false),
            "fetching aligner.json",
        ),
    ] {
        let said = text(&done.stderr);
        assert!(done.status.success(), "{said}");
        assert!(text(&done.stdout).contains("\"token_ids\":["));
        for part in [error, r#""missing":"aligner.json""#] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    assert_eq!(hub.asked().len(), 2);
}

#[test]
fn an_index_that_names_a_path_is_refused_and_the_path_not_asked_for() {
    for shard in [
        "../../evil.safetensors",
        "/evil.safetensors",
        "a/evil.safetensors",
    ] {
        let hub = FakeHub::holding(sharded(shard), None);
        let home = tempfile::tempdir().expect("a temporary folder");
        for _ in ["fetched", "found again"] {
            let done = correct(&format!("acme/tiny@{COMMIT}"), home.path(), &hub.url, false);
            assert_eq!(done.status.code(), Some(1));
            let error = text(&done.stderr);
            for part in [INDEX, "model.norm.weight", shard] {
                assert!(error.contains(part), "{part} in {error}");
            }
            let asked = hub.asked();
            assert!(!asked.iter().any(|path| path.contains("evil")), "{asked:?}");
        }
    }
}

#[test]
fn a_damaged_file_is_named_and_not_kept() {
    let hub = FakeHub::start(Some("model.safetensors"));
    let home = tempfile::tempdir().expect("a temporary folder");
    let done = correct(&format!("acme/tiny@{COMMIT}"), home.path(), &hub.url, false);
    assert_eq!(done.status.code(), Some(1));
    let error = text(&done.stderr);
    assert!(
        error.contains("fetching model.safetensors of acme/tiny@") && error.contains("SHA-256"),
        "{error}"
    );
    let left: Vec<String> = fs::read_dir(snapshot(home.path()))
        .expect("a snapshot was begun")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.contains("safetensors"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_cache_that_cannot_be_made_is_named_with_what_to_set_and_nothing_is_asked() {
    let hub = FakeHub::start(None);
    let home = tempfile::tempdir().expect("a temporary folder");
    let cache = home.path().join("hub");
    fs::write(&cache, "a file, which holds no folder").expect("written");
    let done = correct("acme/tiny@main", home.path(), &hub.url, false);
    assert_eq!(done.status.code(), Some(1));
    let error = text(&done.stderr);
    for part in [cache.display().to_string().as_str(), "set HF_HOME"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(hub.asked(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_fetched_is_said_with_what_to_do() {
    let hub = FakeHub::start(None);
    let home = tempfile::tempdir().expect("a temporary folder");
    let error = |model: &str, endpoint: &str, offline| {
        let done = correct(model, home.path(), endpoint, offline);
        assert!(!done.status.success(), "{model} was found");
        text(&done.stderr)
    };
    let cases = [
        (
            error("acme/none@main", &hub.url, false),
            "check the name and the revision",
        ),
        (error("acme/gated@main", &hub.url, false), "set HF_TOKEN"),
        (
            error("acme/tiny@main", "http://127.0.0.1:1", false),
            "set HF_ENDPOINT",
        ),
        (
            error("acme/tiny@main", &hub.url, true),
            "HF_HUB_OFFLINE forbids",
        ),
        (
            error("acme/tiny", &hub.url, false),
            "write acme/tiny@<commit>",
        ),
        (
            error("acme/../tiny@main", &hub.url, false),
            "owner/name@revision",
        ),
    ];
    for (error, hint) in cases {
        assert!(error.contains(hint), "{error}");
    }
}
