//! `aligner`: the model and how it decodes.

use std::{ops::RangeInclusive, path::Path};

use aligner_engine::{Device, Dtype};

use super::{Found, Settings, checkpoint};
use crate::{
    config::{self, Aligner, ModelChoice, Remote, Secret},
    hub::HubId,
};

/// What devices there are.
const DEVICES: &str = "use cpu, cuda:0, or a list such as [cuda:0, cuda:1]";

/// More than this is a slip of the pen, which would start them all.
const MAX_THREADS: u16 = 1024;

/// Prompt and output of one answer must fit; and more than the most is a slip of the pen.
const KV_TOKENS: RangeInclusive<u32> = 256..=1 << 22;

impl Found {
    pub(super) fn aligner(&mut self, settings: &Settings) {
        let aligner = &settings.aligner;
        self.model(aligner);
        self.devices(aligner);
        self.threads(aligner.threads);
        self.kv_tokens(aligner.kv_tokens);
        self.decoding(aligner);
        if let Some(profile) = &aligner.profile
            && let Err(error) = config::profile(profile)
        {
            self.add(
                "aligner.profile",
                profile.clone(),
                format!("{error:#}"),
                "use paper, alpaca-eval, or a JSON file like the aligner.json beside weights",
            );
        }
        self.remote(&aligner.remote);
        if matches!(aligner.model, ModelChoice::Remote) {
            self.remote_patience(&aligner.remote, settings.pipeline.record_timeout_ms);
        }
    }

    fn model(&mut self, aligner: &Aligner) {
        match &aligner.model {
            ModelChoice::Bundled | ModelChoice::StandIn(_) => {}
            ModelChoice::Remote => {
                for (key, value) in [
                    ("aligner.remote.url", &aligner.remote.url),
                    ("aligner.remote.model", &aligner.remote.model),
                ] {
                    if value.is_none() {
                        self.add(
                            key,
                            None,
                            "aligner.model is remote",
                            "name the completions server and its model, for example \
                             http://vllm:8000/v1 and aligner-2b",
                        );
                    }
                }
            }
            ModelChoice::Named(path) if Path::new(path).exists() => {
                if let Some((message, fix)) = checkpoint::fault(Path::new(path)) {
                    self.add("aligner.model", path.clone(), message, fix);
                }
            }
            ModelChoice::Named(id) if id.parse::<HubId>().is_ok() => {}
            ModelChoice::Named(id) if format!("{id}@main").parse::<HubId>().is_ok() => self.add(
                "aligner.model",
                id.clone(),
                "no file or folder that exists, and a model of the Hugging Face hub needs a \
                 revision",
                format!("write {id}@<commit>, or the path of a folder or file that is there"),
            ),
            ModelChoice::Named(other) => self.add(
                "aligner.model",
                other.clone(),
                "neither a built-in Aligner, nor a file or folder that exists, nor a model of the \
                 Hugging Face hub",
                "use bundled, identity, marker, marker-all, remote, the path of a folder in \
                 Hugging Face layout or of a GGUF file, or owner/name@revision",
            ),
        }
    }

    /// Where the model runs, and whether its weights can be held there as they are asked for.
    fn devices(&mut self, aligner: &Aligner) {
        let names = aligner.device.values();
        if names.is_empty() {
            self.add("aligner.device", "[]".to_owned(), "no device", DEVICES);
        }
        let (mut on_cpu, mut on_cuda) = (false, false);
        for name in names {
            match name.parse::<Device>() {
                Ok(Device::Cpu) => on_cpu = true,
                Ok(Device::Cuda(_)) => {
                    on_cuda = true;
                    if !cfg!(feature = "cuda") {
                        self.add(
                            "aligner.device",
                            name.clone(),
                            "this binary was built without CUDA",
                            "use cpu, or a binary that `make cuda` built",
                        );
                    }
                }
                Err(_) => self.add("aligner.device", name.clone(), "not a device", DEVICES),
            }
        }
        if on_cpu && on_cuda {
            self.add(
                "aligner.device",
                names.join(", "),
                "a CPU and a GPU correct differently where two tokens are as good as tied",
                "name devices of one kind",
            );
        }
        let served = match aligner.dtype {
            Dtype::Auto | Dtype::F32 => true,
            Dtype::Q8_0 | Dtype::Q4K => !on_cuda,
            Dtype::Bf16 => on_cuda,
        };
        // Whatever has no weights here has none to hold.
        if !served && aligner.model.has_weights() {
            self.add(
                "aligner.dtype",
                aligner.dtype.name().to_owned(),
                "not available on this device",
                "use auto, f32, q8_0 or q4_k on a CPU, and auto, f32 or bf16 on CUDA",
            );
        }
    }

    fn threads(&mut self, threads: Option<u16>) {
        match threads {
            Some(0) => self.add(
                "aligner.threads",
                "0".to_owned(),
                "no threads",
                "use null for all cores",
            ),
            Some(threads) if threads > MAX_THREADS => self.add(
                "aligner.threads",
                threads.to_string(),
                format!("more than {MAX_THREADS}; threads beyond the cores only wait for them"),
                "write as many as there are cores, or use null for all of them",
            ),
            _ => {}
        }
    }

    fn kv_tokens(&mut self, tokens: Option<u32>) {
        if let Some(tokens) = tokens.filter(|tokens| !KV_TOKENS.contains(tokens)) {
            let (least, most) = KV_TOKENS.into_inner();
            self.add(
                "aligner.kv_tokens",
                tokens.to_string(),
                format!("not one of {least} to {most}"),
                "write 65536, or null to choose by the model's size",
            );
        }
    }

    fn decoding(&mut self, aligner: &Aligner) {
        if aligner.max_new_tokens == 0 {
            self.add(
                "aligner.max_new_tokens",
                "0".to_owned(),
                "nothing could be decoded",
                "write 1024",
            );
        }
        if !(0.0..=2.0).contains(&aligner.temperature) {
            self.add(
                "aligner.temperature",
                aligner.temperature.to_string(),
                "a temperature lies between 0 (greedy) and 2",
                "write 0",
            );
        }
        if i64::try_from(aligner.seed).is_err() {
            self.add(
                "aligner.seed",
                aligner.seed.to_string(),
                format!("corrections record a seed as an integer up to {}", i64::MAX),
                format!("write one between 0 and {}", i64::MAX),
            );
        }
        // Sampling rounds it to an f32: one that is 0 there would leave no token to draw.
        if let Some(top_p) = aligner.top_p
            && !(top_p as f32 > 0.0 && top_p <= 1.0)
        {
            self.add(
                "aligner.top_p",
                top_p.to_string(),
                "a probability above 0 and up to 1",
                "write 0.95, or null",
            );
        }
    }

    /// A server that is away is waited for, and a record that never ends is not: the pipeline tells
    /// them apart by what comes first, the end of the request or of its own patience.
    fn remote_patience(&mut self, remote: &Remote, record_timeout_ms: u64) {
        if remote.timeout_ms < record_timeout_ms {
            return;
        }
        self.add(
            "aligner.remote.timeout_ms",
            remote.timeout_ms.to_string(),
            format!(
                "a record is given up after pipeline.record_timeout_ms {record_timeout_ms}: a server \
                 that hangs would make dead letters"
            ),
            "write less, or raise pipeline.record_timeout_ms",
        );
    }

    fn remote(&mut self, remote: &Remote) {
        if let Some(url) = &remote.url
            && let Some(fault) = aligner_remote::url_fault(url)
        {
            self.add(
                "aligner.remote.url",
                None,
                fault,
                "write for example http://vllm:8000/v1",
            );
        }
        if remote.max_concurrency == 0 {
            self.add(
                "aligner.remote.max_concurrency",
                "0".to_owned(),
                "nothing could be asked",
                "write 64",
            );
        }
        if remote.timeout_ms == 0 {
            self.add(
                "aligner.remote.timeout_ms",
                "0".to_owned(),
                "no request could be answered in time",
                "write 60000",
            );
        }
        if remote.api_key.as_ref().is_some_and(breaks_header) {
            self.add("aligner.remote.api_key", None, BREAKS_HEADER, KEY_ALONE);
        }
        if let Some(path) = &remote.api_key_file {
            let key = self.secret("aligner.remote.api_key_file", path);
            if key.as_ref().is_some_and(breaks_header) {
                self.add(
                    "aligner.remote.api_key_file",
                    path.clone(),
                    BREAKS_HEADER,
                    KEY_ALONE,
                );
            }
            if remote.api_key.is_some() {
                self.add(
                    "aligner.remote.api_key_file",
                    path.clone(),
                    "the key is given twice",
                    "remove aligner.remote.api_key",
                );
            }
        }
    }
}

const BREAKS_HEADER: &str =
    "the key has a line break or another control character, which no header takes";
const KEY_ALONE: &str = "give the key alone, on one line";

/// Whether no request could be sent with this key.
fn breaks_header(key: &Secret) -> bool {
    let mut characters = key.expose().chars();
    characters.any(|c| c.is_ascii_control() && c != '\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        OneOrMany,
        check::{check, tests::keys},
    };

    #[test]
    fn a_model_of_the_hub_without_a_revision_is_told_to_have_one() {
        let mut settings = Settings::default();
        let mut told = |model: &str| {
            settings.aligner.model = ModelChoice::Named(model.to_owned());
            let problem = check(&settings).remove(0);
            (problem.message, problem.fix.unwrap_or_default())
        };
        let (message, fix) = told("acme/aligner");
        assert!(message.ends_with("needs a revision"), "{message}");
        assert!(fix.starts_with("write acme/aligner@<commit>"), "{fix}");
        for path in ["nonsense", "/no/such", "./no/such", "a/b/c"] {
            let (message, _) = told(path);
            assert!(message.starts_with("neither a built-in"), "{message}");
        }
    }

    #[test]
    fn a_server_that_hangs_is_given_up_before_the_record_that_waits_for_it() {
        let told = |model: ModelChoice, timeout_ms, record_timeout_ms| {
            let mut settings = Settings::default();
            settings.aligner.model = model;
            settings.aligner.remote.url = Some("http://vllm:8000/v1".to_owned());
            settings.aligner.remote.model = Some("m".to_owned());
            settings.aligner.remote.timeout_ms = timeout_ms;
            settings.pipeline.record_timeout_ms = record_timeout_ms;
            settings.service.stall_timeout_ms = record_timeout_ms * 4;
            keys(&settings)
        };
        assert_eq!(told(ModelChoice::Remote, 60_000, 60_001), [""; 0]);
        assert_eq!(
            told(ModelChoice::Remote, 60_000, 60_000),
            ["aligner.remote.timeout_ms"]
        );
        assert_eq!(told(ModelChoice::Bundled, 60_000, 60_000), [""; 0]);
    }

    #[test]
    fn a_list_without_devices_is_refused() {
        let mut settings = Settings::default();
        settings.aligner.device = OneOrMany::Many(Vec::new());
        assert_eq!(keys(&settings), ["aligner.device"]);
    }

    #[test]
    fn a_threshold_that_leaves_no_token_to_draw_is_refused() {
        let mut settings = Settings::default();
        settings.aligner.temperature = 0.5;
        for refused in [0.0, -0.5, 1.0e-46, 1.1, f64::NAN] {
            settings.aligner.top_p = Some(refused);
            assert_eq!(keys(&settings), ["aligner.top_p"], "{refused}");
        }
        for taken in [1.0e-30, 0.95, 1.0] {
            settings.aligner.top_p = Some(taken);
            assert_eq!(check(&settings), [], "{taken}");
        }
    }

    #[test]
    fn a_key_that_no_header_takes_is_refused_and_not_repeated() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "hunter2\nhunter3\n").expect("written");
        let file = file.path().display().to_string();
        let mut settings = Settings::default();
        for (key, path, refused) in [
            (Some("hunter2\0"), None, Some("aligner.remote.api_key")),
            (Some("hunter2\r\n"), None, Some("aligner.remote.api_key")),
            (None, Some(file), Some("aligner.remote.api_key_file")),
            (Some("hünter 2"), None, None),
        ] {
            settings.aligner.remote.api_key = key.map(Secret::new);
            settings.aligner.remote.api_key_file = path;
            let problems = check(&settings);
            let found = problems.first().map(|problem| problem.key.as_str());
            assert_eq!(found, refused);
            assert!(!format!("{problems:?}").contains("hunter"), "{problems:?}");
        }
    }

    #[test]
    fn as_many_threads_as_cores_are_taken_and_thousands_are_not() {
        let mut settings = Settings::default();
        for taken in [None, Some(1), Some(MAX_THREADS)] {
            settings.aligner.threads = taken;
            assert_eq!(check(&settings), []);
        }
        for refused in [0, MAX_THREADS + 1, u16::MAX] {
            settings.aligner.threads = Some(refused);
            assert_eq!(keys(&settings), ["aligner.threads"], "{refused}");
        }
        let problems = check(&settings);
        assert_eq!(problems[0].value.as_deref(), Some("65535"));
        let fix = problems[0].fix.as_deref().unwrap_or_default();
        assert!(fix.contains("cores"), "{fix}");
    }

    #[test]
    fn a_seed_that_no_correction_can_record_is_refused() {
        let mut settings = Settings::default();
        settings.aligner.seed = i64::MAX.unsigned_abs();
        assert_eq!(check(&settings), []);
        settings.aligner.seed += 1;
        let problems = check(&settings);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key, "aligner.seed");
        assert_eq!(problems[0].value.as_deref(), Some("9223372036854775808"));
        let fix = problems[0].fix.as_deref().unwrap_or_default();
        assert_eq!(fix, "write one between 0 and 9223372036854775807");
    }

    #[test]
    fn keys_and_values_have_room_for_an_answer_and_not_for_millions() {
        let mut settings = Settings::default();
        for taken in [None, Some(256), Some(1 << 22)] {
            settings.aligner.kv_tokens = taken;
            assert_eq!(check(&settings), []);
        }
        for refused in [0, 255, (1 << 22) + 1] {
            settings.aligner.kv_tokens = Some(refused);
            assert_eq!(keys(&settings), ["aligner.kv_tokens"], "{refused}");
        }
    }
}
