//! From a checkpoint to decoders, texts and the profile: everything that can be wrong with it is
//! found here, before a thread starts.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use aligner::{Profile, hex};
use aligner_checkpoint::{CONFIG, CheckpointError, Config, Json};
use aligner_tokens::{FILE as TOKENIZER, Texts};
use sha2::{Digest as _, Sha256};

#[cfg(feature = "cuda")]
use crate::cuda::{self, Cuda};
use crate::{
    Description, Device, Dtype, EngineOptions, LoadError, ModelSource,
    backend::{Backend, PAGE_TOKENS},
    cpu::Cpu,
    decoder::{Decoder, WeightPrecision},
    generation::{self, Generation},
    gguf::{GgufFile, Sample},
    header,
    kernels::{self, Isa, KvPrecision},
    penalty::Penalty,
    room,
    scheduler::Budget,
    source::Files,
    weights::{Weights, hash_file},
};

/// A loaded checkpoint.
pub(crate) struct Loaded {
    pub(crate) name: String,
    /// Folder, file or embedded model that it came from, for errors.
    origin: String,
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) eos: Vec<u32>,
    pub(crate) penalty: Option<Penalty>,
    pub(crate) description: Description,
    pub(crate) budget: Budget,
    plan: Plan,
    tokenizer: Option<Vec<u8>>,
    /// What errors call it.
    pub(crate) tokenizer_file: String,
    /// Why no text goes in or comes out; no matter to those who count in tokens.
    tokenizer_problem: Option<LoadError>,
    /// What a `tokenizer.json` beside a GGUF file must agree with.
    sample: Option<Sample>,
    profile: Option<Profile>,
    weights_sha256: [u8; 32],
    config_bytes: Vec<u8>,
}

impl Loaded {
    pub(crate) fn load(options: &EngineOptions) -> Result<Self, LoadError> {
        let plan = Plan::of(options)?;
        let files = match &options.model {
            ModelSource::Folder(folder) => Files::Folder(existing_folder(folder)?),
            ModelSource::Embedded(model) => Files::Embedded(model.clone()),
            ModelSource::Gguf(path) => {
                return Self::from_gguf(path, plan, options);
            }
        };
        let config_bytes = files
            .required(CONFIG, "it describes the model")?
            .into_owned();
        let config_file = files.file(CONFIG);
        let config = Config::read(&Json::parse(&config_file, &config_bytes)?)?;
        let (generation_file, generation) = match files.optional(generation::FILE)? {
            Some(bytes) => {
                let file = files.file(generation::FILE);
                let generation = Generation::from_json(&file, &bytes)?;
                (file, generation)
            }
            None => {
                let generation = Generation::from_config(&config_file, &config_bytes)?;
                (config_file, generation)
            }
        };
        let vocab = config.vocab;
        let of_vocabulary = |ids: &[u32]| -> Vec<u32> {
            let ids = ids.iter().copied();
            ids.filter(|&id| (id as usize) < vocab).collect()
        };
        // Where that names none, and where config.json, read in its stead, names none, transformers
        // ends nowhere; config.json or the class may know. Both differ on purpose, and
        // docs/operations.md tells users: no output would end otherwise.
        let mut eos = of_vocabulary(&generation.eos);
        if eos.is_empty() {
            eos = of_vocabulary(&config.eos);
        }
        let weights = Weights::open(&files)?;
        let weights_sha256 = weights.sha256();
        let decoder = Decoder::load(config, &weights, plan.precision, plan.isa)?;
        // Whoever counts in tokens says where to stop.
        let tokenizer = match files.optional(TOKENIZER)? {
            Some(_) if eos.is_empty() => Err(endless(generation_file, vocab)),
            tokenizer => Ok(tokenizer.map(std::borrow::Cow::into_owned)),
        };
        let profile = read_profile(&files)?;
        let parts = Parts {
            name: files.name(),
            origin: files.origin(),
            eos,
            repetition_penalty: generation.repetition_penalty,
            tokenizer,
            tokenizer_file: files.file(TOKENIZER),
            sample: None,
            profile,
            config_bytes,
        };
        Ok(Self::assemble(
            parts,
            decoder,
            weights_sha256,
            plan,
            options,
        ))
    }

    /// A GGUF file: its metadata is the configuration, its tokenizer lies beside it or within.
    fn from_gguf(path: &Path, plan: Plan, options: &EngineOptions) -> Result<Self, LoadError> {
        let mut digest = Sha256::new();
        hash_file(path, &mut digest)?;
        let weights_sha256 = digest.finalize().into();
        let file = GgufFile::open(path)?;
        let config = file.config()?;
        let eos = config.eos.clone();
        let folder = Files::Folder(path.parent().unwrap_or(Path::new(".")).to_owned());
        let origin = file.origin().to_owned();
        let beside = folder.optional(TOKENIZER)?;
        let tokenizer_file = match &beside {
            Some(_) => folder.file(TOKENIZER),
            None => format!("the tokenizer in {origin}"),
        };
        let (tokenizer, sample) = match beside {
            Some(json) => match file.sample() {
                Ok(sample) => (Ok(Some(json.into_owned())), sample),
                Err(problem) => (Err(problem), None),
            },
            None => (file.tokenizer(), None),
        };
        // Whoever counts in tokens says where to stop.
        let tokenizer = match tokenizer {
            Ok(Some(_)) if eos.is_empty() => Err(file.endless()),
            Ok(None) => Err(no_tokenizer_within(&origin)),
            tokenizer => tokenizer,
        };
        let profile = read_profile(&folder)?;
        let name = path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into());
        let weights = Weights::gguf(file, weights_sha256);
        let decoder = Decoder::load(config, &weights, plan.precision, plan.isa)?;
        // The digest of the file covers its configuration.
        let parts = Parts {
            name,
            origin,
            eos,
            repetition_penalty: None,
            tokenizer,
            tokenizer_file,
            sample,
            profile,
            config_bytes: Vec::new(),
        };
        Ok(Self::assemble(
            parts,
            decoder,
            weights_sha256,
            plan,
            options,
        ))
    }

    fn assemble(
        parts: Parts,
        decoder: Decoder,
        weights_sha256: [u8; 32],
        plan: Plan,
        options: &EngineOptions,
    ) -> Self {
        let config = &decoder.config;
        let head_multiply_adds = config.vocab * config.hidden;
        let kv = decoder.kv_precision();
        let (dtype, kernels, kv_dtype, kv_bytes, step_bytes) = match plan.cuda {
            Some(dtype) => {
                let bytes = if dtype == Dtype::F32 { 4 } else { 2 };
                let weights = decoder.row_multiply_adds() + head_multiply_adds;
                let kernels = "cuda".to_owned();
                (dtype.name(), kernels, dtype.name(), bytes, bytes * weights)
            }
            None => (
                decoder.dtype(),
                decoder.isa.to_string(),
                match kv {
                    KvPrecision::F32 => "f32",
                    KvPrecision::F16 => "f16",
                },
                kv.bytes(),
                decoder.bytes(),
            ),
        };
        let token_bytes = room::token_bytes(config, kv_bytes);
        let budget = room::budget(config, token_bytes, options.limits);
        let description = Description {
            family: config.family.clone(),
            parameters: decoder.parameters(),
            dtype,
            kernels,
            context: config.context,
            vocab: config.vocab,
            layers: config.layers.len(),
            kv_dtype,
            step_bytes,
            row_multiply_adds: decoder.row_multiply_adds(),
            head_multiply_adds,
            weights_sha256: hex(&weights_sha256),
            threads: plan.workers[0].1.get(),
            kv_bytes: plan.workers.len() * budget.pages * PAGE_TOKENS * token_bytes,
        };
        let (tokenizer, tokenizer_problem) = match parts.tokenizer {
            Ok(tokenizer) => (tokenizer, None),
            Err(problem) => (None, Some(problem)),
        };
        let floats = decoder.isa.floats;
        let penalty = parts.repetition_penalty;
        Self {
            name: parts.name,
            origin: parts.origin,
            decoder: Arc::new(decoder),
            eos: parts.eos,
            penalty: penalty.map(|factor| Penalty::new(factor, floats)),
            description,
            budget,
            plan,
            tokenizer,
            tokenizer_file: parts.tokenizer_file,
            tokenizer_problem,
            sample: parts.sample,
            profile: parts.profile,
            weights_sha256,
            config_bytes: parts.config_bytes,
        }
    }

    /// How many workers there are to be.
    pub(crate) fn workers(&self) -> usize {
        self.plan.workers.len()
    }

    /// What the worker of that number computes with.
    pub(crate) fn backend(&self, worker: usize) -> Result<Box<dyn Backend>, LoadError> {
        let decoder = Arc::clone(&self.decoder);
        match self.plan.workers[worker] {
            (Device::Cpu, threads) => {
                room::expect(self.description.kv_bytes / self.workers(), self.budget)?;
                Ok(Box::new(Cpu::new(decoder, threads, self.budget.pages)))
            }
            #[cfg(feature = "cuda")]
            (Device::Cuda(number), _) => {
                let element = self.plan.element();
                let driver = cuda::Driver::open(number)?;
                let cuda = Cuda::new(driver, number, &decoder, &self.origin, element, self.budget)?;
                Ok(Box::new(cuda))
            }
            #[cfg(not(feature = "cuda"))]
            (Device::Cuda(_), _) => unreachable!("a plan without CUDA names no such device"),
        }
    }

    /// Multiply-adds per second of a large product on the first device, and bytes read per second.
    pub(crate) fn measure(&self) -> (f64, f64) {
        match self.plan.workers[0] {
            #[cfg(feature = "cuda")]
            (Device::Cuda(number), _) => {
                let measured = cuda::Driver::open(number).map(|driver| {
                    cuda::measure(driver, self.plan.element()).expect("the device works")
                });
                measured.unwrap_or_else(|error| panic!("{error}"))
            }
            (_, threads) => {
                let decoder = &self.decoder;
                kernels::measure(threads, decoder.main_precision(), decoder.isa)
            }
        }
    }

    /// Refuses a folder without a tokenizer before minutes go into its weights.
    pub(crate) fn expect_tokenizer(model: &ModelSource) -> Result<(), LoadError> {
        match model {
            ModelSource::Folder(folder) if folder.is_dir() && !folder.join(TOKENIZER).exists() => {
                Err(no_tokenizer(folder.display().to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Encodes and decodes; an error if the checkpoint brought no tokenizer, or one of another
    /// model.
    pub(crate) fn texts(&mut self) -> Result<Texts, LoadError> {
        if let Some(problem) = self.tokenizer_problem.take() {
            return Err(problem);
        }
        let json = self
            .tokenizer
            .as_ref()
            .ok_or_else(|| no_tokenizer(self.origin.clone()))?;
        let texts = Texts::from_json(json).map_err(|error| CheckpointError::Malformed {
            file: self.tokenizer_file.clone(),
            problem: header::pointer(json, "tokenizer", "it").unwrap_or_else(|| error.to_string()),
        })?;
        if let Some(sample) = &self.sample {
            sample.check(&texts)?;
        }
        Ok(texts)
    }

    /// The profile to use: the configured one, the checkpoint's, or the paper's template.
    pub(crate) fn profile(&self, configured: Option<&Profile>) -> Profile {
        configured
            .or(self.profile.as_ref())
            .cloned()
            .unwrap_or_else(|| Profile::paper(self.name.clone()))
    }

    /// Short digest of everything that decides an output but the decoding parameters, which are
    /// recorded beside it: the same checkpoint has the same revision on every machine.
    pub(crate) fn revision(&self, profile: &Profile) -> String {
        let mut digest = Sha256::new();
        let mut part = |name: &str, bytes: &[u8]| {
            digest.update(name.as_bytes());
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        part("weights", &self.weights_sha256);
        part("config", &self.config_bytes);
        part("tokenizer", self.tokenizer.as_deref().unwrap_or_default());
        part("dtype", self.description.dtype.as_bytes());
        // A GPU sums in another order.
        if self.plan.cuda.is_some() {
            part("device", b"cuda");
        }
        let eos: Vec<u8> = self.eos.iter().flat_map(|id| id.to_le_bytes()).collect();
        part("eos", &eos);
        if let Some(penalty) = &self.penalty {
            part("repetition_penalty", &penalty.factor.to_le_bytes());
        }
        part("template", profile.template.text().as_bytes());
        part(
            "unchanged",
            profile
                .unchanged_token
                .as_deref()
                .unwrap_or_default()
                .as_bytes(),
        );
        let guard = serde_json::to_vec(&profile.guard).expect("a guard is plain numbers and words");
        part("guard", &guard);
        hex(&digest.finalize())[..16].to_owned()
    }
}

/// What a checkpoint brings beside its decoder.
struct Parts {
    name: String,
    origin: String,
    eos: Vec<u32>,
    repetition_penalty: Option<f32>,
    tokenizer: Result<Option<Vec<u8>>, LoadError>,
    tokenizer_file: String,
    sample: Option<Sample>,
    profile: Option<Profile>,
    config_bytes: Vec<u8>,
}

fn no_tokenizer(origin: String) -> LoadError {
    LoadError::MissingFile {
        file: TOKENIZER.to_owned(),
        origin,
        hint: "tokenizer.model and vocab.json are not read; transformers writes it: \
               AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
    }
}

/// The same of a GGUF file, from which nobody makes a `tokenizer.json`.
fn no_tokenizer_within(origin: &str) -> LoadError {
    CheckpointError::Key {
        file: origin.to_owned(),
        key: "tokenizer.ggml.model".to_owned(),
        problem: "names no tokenizer; put the model's tokenizer.json beside the file".to_owned(),
    }
    .into()
}

/// That nothing a folder says ends an output.
fn endless(file: String, vocab: usize) -> LoadError {
    CheckpointError::Key {
        file,
        key: "eos_token_id".to_owned(),
        problem: format!(
            "names no token of the {vocab} that the model has, so that every correction would run \
             to its limit; set it to the id of the token that ends an output"
        ),
    }
    .into()
}

/// The profile beside the weights.
fn read_profile(files: &Files) -> Result<Option<Profile>, LoadError> {
    const FILE: &str = "aligner.json";
    let json = files.optional(FILE)?;
    let profile = json.map(|json| Profile::from_json(&json, &files.file(FILE)));
    Ok(profile.transpose()?)
}

fn existing_folder(folder: &Path) -> Result<PathBuf, LoadError> {
    if folder.is_dir() {
        return Ok(folder.to_owned());
    }
    Err(LoadError::MissingFile {
        file: CONFIG.to_owned(),
        origin: folder.display().to_string(),
        hint: "this is not a folder; give a folder in Hugging Face layout",
    })
}

/// What the options come to on this machine and in this build.
struct Plan {
    /// Where each worker computes, and on how many threads if on the CPU.
    workers: Vec<(Device, NonZeroUsize)>,
    /// How the CPU holds weights: for CUDA, what is uploaded from.
    precision: WeightPrecision,
    isa: Isa,
    /// How CUDA holds them, if the workers compute there.
    cuda: Option<Dtype>,
}

impl Plan {
    #[cfg(feature = "cuda")]
    fn element(&self) -> cuda::Element {
        match self.cuda {
            Some(Dtype::F32) => cuda::Element::F32,
            _ => cuda::Element::Bf16,
        }
    }

    fn of(options: &EngineOptions) -> Result<Self, LoadError> {
        let workers = workers(options)?;
        let refused = |problem: &str| {
            Err(LoadError::Setting {
                setting: "dtype",
                value: options.dtype.name().to_owned(),
                problem: problem.to_owned(),
            })
        };
        let on_cuda = workers[0].0 != Device::Cpu;
        let (precision, cuda) = match (on_cuda, options.dtype) {
            (true, Dtype::Auto | Dtype::Bf16) => (WeightPrecision::F32, Some(Dtype::Bf16)),
            (true, Dtype::F32) => (WeightPrecision::F32, Some(Dtype::F32)),
            (true, _) => return refused("is not available on CUDA; use auto, bf16 or f32"),
            (false, Dtype::Auto) => (WeightPrecision::AsStored, None),
            (false, Dtype::F32) => (WeightPrecision::F32, None),
            (false, Dtype::Q8_0) => (WeightPrecision::Q8, None),
            (false, Dtype::Q4K) => (WeightPrecision::Q4, None),
            (false, Dtype::Bf16) => {
                return refused("is not available on the CPU; use f32, q8_0 or q4_k");
            }
        };
        Ok(Self {
            workers,
            precision,
            isa: Isa::named(options.kernels.as_deref())?,
            cuda,
        })
    }
}

/// The devices, and the configured or available threads, split evenly.
fn workers(options: &EngineOptions) -> Result<Vec<(Device, NonZeroUsize)>, LoadError> {
    let refused = |value: String, problem: &str| {
        Err(LoadError::Setting {
            setting: "device",
            value,
            problem: problem.to_owned(),
        })
    };
    let devices = &options.devices;
    if devices.is_empty() {
        return refused("[]".to_owned(), "names no device; use cpu");
    }
    let cuda = devices.iter().find_map(|device| match device {
        Device::Cuda(number) => Some(format!("cuda:{number}")),
        Device::Cpu => None,
    });
    if let Some(cuda) = cuda {
        if !cfg!(feature = "cuda") {
            let problem = "needs a build with CUDA, which this one is not; use cpu";
            return refused(cuda, problem);
        }
        // Their weights are held differently, so that they would correct differently.
        if devices.contains(&Device::Cpu) {
            return refused(cuda, "cannot work beside cpu; name devices of one kind");
        }
    }
    let available = options
        .threads
        .or_else(|| thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
        .get();
    let count = devices.len();
    Ok(devices
        .iter()
        .enumerate()
        .map(|(worker, &device)| {
            let threads = available / count + usize::from(worker < available % count);
            (
                device,
                NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN),
            )
        })
        .collect())
}
