//! `aligner`: the model and how it decodes.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use aligner_checkpoint::{CONFIG, INDEX, SINGLE, shards};
use aligner_engine::{Device, Dtype};

use super::{Found, Problem, Settings};
use crate::{
    config::{self, Aligner, ModelChoice, Remote},
    hub::HubId,
};

const TOKENIZER: &str = "tokenizer.json";

/// More than this is a slip of the pen, which would start them all.
const MAX_THREADS: u16 = 1024;

impl Found {
    pub(super) fn aligner(&mut self, settings: &Settings) {
        let aligner = &settings.aligner;
        self.model(aligner);
        self.devices(aligner);
        self.threads(aligner.threads);
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
                if let Some(problem) = no_checkpoint(Path::new(path)) {
                    self.add(
                        "aligner.model",
                        path.clone(),
                        problem,
                        "name a folder in Hugging Face layout or a GGUF file, which this user may \
                         read",
                    );
                }
            }
            ModelChoice::Named(id) if id.parse::<HubId>().is_ok() => {}
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
                Err(_) => self.add(
                    "aligner.device",
                    name.clone(),
                    "not a device",
                    "use cpu, cuda:0, or a list such as [cuda:0, cuda:1]",
                ),
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
        if let Some(top_p) = aligner.top_p
            && !(top_p > 0.0 && top_p <= 1.0)
        {
            self.add(
                "aligner.top_p",
                top_p.to_string(),
                "a probability above 0 and up to 1",
                "write 0.95, or null",
            );
        }
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
        if let Some(path) = &remote.api_key_file {
            self.secret("aligner.remote.api_key_file", path);
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

/// What else a model needs that reads and writes texts, other than one that is only measured: a
/// folder without a tokenizer is no Aligner. A GGUF file may bring its own within.
pub fn no_tokenizer(aligner: &Aligner) -> Option<Problem> {
    let ModelChoice::Named(path) = &aligner.model else {
        return None;
    };
    let folder = Path::new(path);
    if !folder.is_dir() || folder.join(TOKENIZER).is_file() {
        return None;
    }
    Some(Problem {
        key: "aligner.model".to_owned(),
        value: Some(path.clone()),
        message: format!("a folder without {TOKENIZER}"),
        fix: Some(format!("put the {TOKENIZER} of the model there")),
    })
}

fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

/// Why a folder holds no weights, as far as their names tell.
fn no_weights(folder: &Path) -> Option<String> {
    let exists = |name: &str| folder.join(name).is_file();
    if exists(SINGLE) {
        return None;
    }
    let path = folder.join(INDEX);
    match fs::read(&path) {
        Ok(index) => match shards(&index, &path.display().to_string()) {
            Ok(names) => names
                .iter()
                .find(|name| !exists(name))
                .map(|name| format!("a folder without {name}, which {INDEX} lists")),
            Err(error) => Some(error.to_string()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("a folder without {SINGLE} or {INDEX}"))
        }
        Err(error) => Some(unreadable(error)),
    }
}

/// Why a path that exists cannot be a checkpoint, as far as a glance tells.
fn no_checkpoint(path: &Path) -> Option<String> {
    if path.is_dir() {
        return match fs::metadata(path.join(CONFIG)) {
            Ok(_) => no_weights(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("a folder without {CONFIG}"))
            }
            Err(error) => Some(unreadable(error)),
        };
    }
    // Opening a pipe would wait for its other end.
    if !path.is_file() {
        return Some("neither a file nor a folder".to_owned());
    }
    let mut magic = [0; 4];
    match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if magic == *b"GGUF" => None,
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Some(unreadable(error)),
        _ => Some("a file that is no GGUF file".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::{check, tests::keys};

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
    fn a_folder_is_a_model_once_it_has_all_files_of_one() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut settings = Settings::default();
        settings.aligner.model = ModelChoice::Named(folder.path().display().to_string());
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        let refused = || {
            let problem = check(&settings).into_iter().next();
            problem
                .or_else(|| no_tokenizer(&settings.aligner))
                .map(|problem| problem.message)
        };
        let told = |message: &str| Some(message.to_owned());
        assert_eq!(refused(), told("a folder without config.json"));
        write("config.json", "{}");
        assert_eq!(
            refused(),
            told("a folder without model.safetensors or model.safetensors.index.json")
        );
        write(
            "model.safetensors.index.json",
            r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#,
        );
        write("1.safetensors", "");
        assert_eq!(
            refused(),
            told("a folder without 2.safetensors, which model.safetensors.index.json lists")
        );
        write("2.safetensors", "");
        assert_eq!(refused(), told("a folder without tokenizer.json"));
        write("tokenizer.json", "{}");
        assert_eq!(refused(), None);
        write("model.safetensors.index.json", "[");
        assert!(refused().is_some_and(|said| said.contains("is not valid")));
        // One file of all weights counts before any index.
        write("model.safetensors", "");
        assert_eq!(refused(), None);
    }
}
