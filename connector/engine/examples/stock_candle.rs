//! The same queue on candle-transformers as it comes: one request at a time, since its models
//! take one offset for a whole batch. For `make bench-engine-peers`.
//!
//! ```text
//! RAYON_NUM_THREADS=2 stock_candle MODEL QUEUE FIRST_N
//! ```
//!
//! `MODEL` is a folder in Hugging Face layout, computed in f32, or a GGUF file, computed as it is
//! stored. It gets the connector's allocator, with which it is faster. One JSON object goes to
//! stdout.

use std::{env, fs, path::Path, time::Instant};

use candle_core::{D, DType, Device, Result, Tensor, quantized::gguf_file};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    llama::{Cache, Config, Llama, LlamaConfig},
    quantized_llama::ModelWeights,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

enum Model {
    Full(Box<(Llama, Config)>),
    Quantized(Box<ModelWeights>),
}

/// A model and what it remembers of one request.
struct Session {
    model: Model,
    cache: Option<Cache>,
    position: usize,
}

impl Session {
    fn load(path: &Path) -> std::result::Result<Self, Box<dyn std::error::Error>> {
        let model = if path.is_dir() {
            let config: LlamaConfig = serde_json::from_slice(&fs::read(path.join("config.json"))?)?;
            let config = config.into_config(false);
            let weights = [path.join("model.safetensors")];
            // SAFETY: nobody changes the file while this program runs.
            let weights =
                unsafe { VarBuilder::from_mmaped_safetensors(&weights, DType::F32, &Device::Cpu)? };
            Model::Full(Box::new((Llama::load(weights, &config)?, config)))
        } else {
            let mut file = fs::File::open(path)?;
            let content = gguf_file::Content::read(&mut file)?;
            Model::Quantized(Box::new(ModelWeights::from_gguf(
                content,
                &mut file,
                &Device::Cpu,
            )?))
        };
        Ok(Self {
            model,
            cache: None,
            position: 0,
        })
    }

    fn restart(&mut self) -> Result<()> {
        self.position = 0;
        match &mut self.model {
            Model::Full(model) => {
                self.cache = Some(Cache::new(true, DType::F32, &model.1, &Device::Cpu)?);
            }
            Model::Quantized(model) => model.clear_kv_cache(),
        }
        Ok(())
    }

    /// Computes these tokens; the greedy token after them.
    fn feed(&mut self, tokens: &[u32]) -> Result<u32> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = match &mut self.model {
            Model::Full(model) => {
                let cache = self.cache.as_mut().expect("a session is started first");
                model.0.forward(&input, self.position, cache)?
            }
            Model::Quantized(model) => model.forward(&input, self.position)?,
        };
        self.position += tokens.len();
        logits.flatten_all()?.argmax(D::Minus1)?.to_scalar()
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, queue, first] = arguments.as_slice() else {
        return Err("give a model, a queue and how many of its requests".into());
    };
    let queue: serde_json::Value = serde_json::from_slice(&fs::read(queue)?)?;
    let size = |request: &serde_json::Value, key: &str| {
        let size = request[key]
            .as_u64()
            .ok_or(format!("a request without {key}"))?;
        std::result::Result::<_, Box<dyn std::error::Error>>::Ok(usize::try_from(size)?)
    };
    let requests: Vec<(usize, usize)> = queue["requests"]
        .as_array()
        .ok_or("a queue has requests")?
        .iter()
        .take(first.parse()?)
        .map(|request| Ok((size(request, "prompt_len")?, size(request, "out_len")?)))
        .collect::<std::result::Result<_, Box<dyn std::error::Error>>>()?;

    let mut session = Session::load(Path::new(model))?;
    session.restart()?;
    session.feed(&[3; 16])?;
    let started = Instant::now();
    for &(prompt, output) in &requests {
        session.restart()?;
        // Ids do not change what a pass costs.
        session.feed(&(3..3 + prompt as u32).collect::<Vec<_>>())?;
        for index in 1..output {
            session.feed(&[3 + index as u32])?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{{\"requests\": {}, \"seconds\": {seconds:.4}, \"corrections_per_s\": {:.4}}}",
        requests.len(),
        requests.len() as f64 / seconds
    );
    Ok(())
}
