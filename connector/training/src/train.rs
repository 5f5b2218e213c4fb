//! The run: prepare, step, validate, keep checkpoints, write the trained model.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use candle_core::{Device, Tensor};

use crate::{
    batches::{Batch, Stream},
    curve,
    error::TrainError,
    examples::{self, Example},
    files,
    history::{History, Point},
    kernels::cross_entropy,
    measured::Measured,
    model::Model,
    optimiser::{AdamW, Gradients},
    options::{DeviceChoice, TrainOptions},
    origin::Origin,
    pace::Pace,
    parts::{self, Parts},
    prepare::{Examples, Prepared, prepare},
    progress::{Ended, Outcome, Phase, Progress, Validation},
    schedule::{Schedule, count_steps, warmup_steps},
    state::{Checkpoints, State, Stored},
};

/// Trains; `progress` is called after every step, and may break off with a checkpoint.
///
/// # Errors
/// If options, data or base are bad, a file cannot be read or written, the newest checkpoint
/// belongs to another run, or the loss diverges.
pub fn train(
    options: &TrainOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Outcome, TrainError> {
    options.recipe.check()?;
    let device = device(options.device)?;
    let prepared = prepare(options)?;
    let mut run = Run::new(options, prepared, device)?;
    run.begin()?;
    let ended = run.go(progress)?;
    run.finish(ended)
}

fn device(choice: DeviceChoice) -> Result<Device, TrainError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda(number) => {
            Device::new_cuda(number).map_err(|source| TrainError::Tensor {
                device: choice.to_string(),
                source,
            })
        }
        #[cfg(not(feature = "cuda"))]
        DeviceChoice::Cuda(_) => Err(TrainError::Option {
            option: "device",
            value: choice.to_string(),
            expected: "which needs a build with the feature cuda; expected cpu",
        }),
    }
}

struct Run<'a> {
    options: &'a TrainOptions,
    device: Device,
    /// Until it is written.
    to_write: Option<Parts>,
    origin: Origin,
    examples: Examples,
    /// Digest of the data.
    data: String,
    model: Model,
    optimiser: AdamW,
    checkpoints: Checkpoints,
    state: State,
    schedule: Schedule,
    identity_steps: u64,
}

impl<'a> Run<'a> {
    fn new(
        options: &'a TrainOptions,
        prepared: Prepared,
        device: Device,
    ) -> Result<Self, TrainError> {
        let recipe = &options.recipe;
        let on = |source| TrainError::Tensor {
            device: options.device.to_string(),
            source,
        };
        let Prepared {
            to_write,
            mut origin,
            examples,
            data,
        } = prepared;
        let model = match origin.weights.take() {
            None => Model::random(origin.shape.clone(), recipe.seed, &device).map_err(on)?,
            Some(weights) => Model::with_weights(origin.shape.clone(), weights, &device)
                .map_err(on)?
                .map_err(|problem| TrainError::Checkpoint {
                    file: origin.weights_file.clone(),
                    problem,
                })?,
        };
        let mut optimiser = AdamW::new(model.weights(), recipe).map_err(on)?;
        if let Some(moments) = origin.moments.take() {
            optimiser
                .restore(moments, &device)
                .map_err(on)?
                .map_err(|problem| TrainError::Checkpoint {
                    file: origin.weights_file.clone(),
                    problem,
                })?;
        }
        let (steps, identity_steps) = count_steps(recipe, &examples.residual);
        let state = origin.state.take().unwrap_or(State {
            recipe: recipe.clone(),
            base: Some(options.base.name()),
            warmup_steps: Some(warmup_steps(recipe, steps)),
            data: data.clone(),
            precision: origin.precision,
            step: 0,
            tokens: 0,
            seconds: 0.0,
            best: None,
            not_better: 0,
            history: History::default(),
        });
        // A run goes on as it began.
        let warmup_steps = state
            .warmup_steps
            .unwrap_or_else(|| recipe.warmup_steps.min(steps));
        Ok(Self {
            options,
            device,
            model,
            optimiser,
            checkpoints: Checkpoints::of(&options.output),
            state,
            schedule: Schedule {
                peak: recipe.learning_rate,
                final_share: recipe.final_learning_rate_share,
                warmup_steps,
                steps,
            },
            identity_steps,
            to_write,
            origin,
            examples,
            data,
        })
    }

    /// Writes what goes beside the weights of a new run. Whatever may be wrong has shown by now.
    fn begin(&mut self) -> Result<(), TrainError> {
        match self.to_write.take() {
            Some(parts) => parts.write(&self.options.output),
            None => Ok(()),
        }
    }

    fn on(&self, source: candle_core::Error) -> TrainError {
        TrainError::Tensor {
            device: self.options.device.to_string(),
            source,
        }
    }

    fn stopped_early(&self) -> bool {
        self.options
            .recipe
            .patience
            .is_some_and(|patience| self.state.not_better >= patience.max(1))
    }

    fn go(
        &mut self,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Ended, TrainError> {
        let options = self.options;
        let recipe = &options.recipe;
        let (identity, residual) = (
            std::mem::take(&mut self.examples.identity),
            std::mem::take(&mut self.examples.residual),
        );
        let accumulation = recipe.accumulation as u64;
        let spent = |steps: u64| steps * accumulation;
        let first = self.state.step;
        let mut identity_batches = if self.identity_steps > 0 {
            Stream::new(
                &identity,
                recipe.batch_tokens,
                recipe.seed ^ 0x5eed_0002,
                spent(first.min(self.identity_steps)),
            )
        } else {
            None
        };
        let mut residual_batches = Stream::new(
            &residual,
            recipe.batch_tokens,
            recipe.seed ^ 0x5eed_0003,
            spent(first.saturating_sub(self.identity_steps)),
        );
        if first == 0 {
            self.validate()?;
        }
        let before = self.state.seconds;
        let started = Instant::now();
        let mut pace = Pace::default();
        while self.state.step < self.schedule.steps && !self.stopped_early() {
            let phase = if self.state.step < self.identity_steps {
                Phase::Identity
            } else {
                Phase::Residual
            };
            let stream = match phase {
                Phase::Identity => identity_batches.as_mut(),
                Phase::Residual => residual_batches.as_mut(),
            }
            .expect("prepare() refuses a run with no example for a phase that has steps");
            let batches: Vec<Vec<&Example>> = (0..accumulation).map(|_| stream.next()).collect();
            let begun = Instant::now();
            let done = self.step(&batches)?;
            pace.add(begun.elapsed(), done.tokens);
            self.state.step += 1;
            self.state.tokens += done.tokens;
            self.state.history.trained(self.state.step, done.loss);
            let step = self.state.step;
            let last = step == self.schedule.steps;
            let validation = if last || step.is_multiple_of(recipe.validate_every_steps) {
                self.validate()?
            } else {
                None
            };
            self.state.seconds = before + started.elapsed().as_secs_f64();
            let report = Progress {
                phase,
                step,
                steps: self.schedule.steps,
                loss: done.loss,
                learning_rate: done.rate,
                gradient_norm: done.norm,
                tokens_per_second: pace.tokens_per_second(),
                elapsed: Duration::from_secs_f64(self.state.seconds),
                left: pace.left(self.schedule.steps - step),
                validation,
            };
            let stop = progress(&report).is_break() || options.stop_after_step == Some(step);
            let every = options.checkpoint_every_steps.max(1);
            if stop || last || self.stopped_early() || step.is_multiple_of(every) {
                self.keep()?;
            }
            if stop && !last {
                return Ok(Ended::Interrupted);
            }
        }
        Ok(if self.state.step < self.schedule.steps {
            Ended::EarlyStopped
        } else {
            Ended::Completed
        })
    }

    fn step(&mut self, batches: &[Vec<&Example>]) -> Result<Stepped, TrainError> {
        let rate = self.schedule.rate(self.state.step);
        let stepped = self
            .descend(batches, rate)
            .map_err(|source| self.on(source))?;
        if stepped.loss.is_finite() && stepped.norm.is_finite() {
            return Ok(stepped);
        }
        Err(TrainError::Diverged {
            step: self.state.step + 1,
            loss: stepped.loss,
            learning_rate: self.options.recipe.learning_rate,
            warmup_steps: self.schedule.warmup_steps,
        })
    }

    fn descend(&mut self, batches: &[Vec<&Example>], rate: f64) -> candle_core::Result<Stepped> {
        let first_weight = self.options.recipe.first_token_weight;
        let batches: Vec<Batch> = batches
            .iter()
            .map(|examples| Batch::new(examples, first_weight, &self.device))
            .collect::<candle_core::Result<_>>()?;
        // Every target of the step weighs the same, whichever batch it is in.
        let weight: f64 = batches.iter().map(|batch| batch.weight).sum();
        let mut gradients = Gradients::none();
        let mut loss = 0.0;
        for batch in &batches {
            let logits = self.model.logits(&batch.ids, &batch.at)?;
            let each = cross_entropy(&logits, &batch.labels)?;
            let part = ((each * &batch.weights)?.sum_all()? / weight)?;
            gradients.add(self.model.weights(), &part.backward()?)?;
            loss += f64::from(part.to_scalar::<f32>()?);
        }
        if !loss.is_finite() {
            // The weights stay as they were.
            return Ok(Stepped {
                loss,
                rate,
                norm: f64::NAN,
                tokens: 0,
            });
        }
        let norm = self
            .optimiser
            .step(self.model.weights(), gradients, rate, self.state.step)?;
        Ok(Stepped {
            loss,
            rate,
            norm,
            tokens: batches.iter().map(|batch| batch.tokens as u64).sum(),
        })
    }

    fn validate(&mut self) -> Result<Option<Validation>, TrainError> {
        if self.examples.validation.is_empty() {
            return Ok(None);
        }
        let measured = self.measure()?;
        let loss = measured.loss;
        let step = self.state.step;
        self.state.history.validated(step, loss);
        let limit = self.state.best.map_or(f64::INFINITY, |best| {
            best.loss - self.options.recipe.min_improvement
        });
        let best = loss < limit;
        if best {
            self.state.best = Some(Point { step, loss });
            self.state.not_better = 0;
            self.checkpoints.write_best(step, &self.weights())?;
        } else if step > self.identity_steps {
            // The warm-up teaches nothing of what is validated: patience begins when it is over.
            self.state.not_better += 1;
        }
        Ok(Some(Validation {
            loss,
            exact: measured.exact(),
            triples: self.examples.validation.len(),
            best,
        }))
    }

    fn measure(&self) -> Result<Measured, TrainError> {
        let batch_tokens = self.options.recipe.batch_tokens;
        let validation = &self.examples.validation;
        Measured::of(&self.model, validation, batch_tokens, &self.device)
            .map_err(|source| self.on(source))
    }

    fn weights(&self) -> BTreeMap<String, Tensor> {
        self.model
            .weights()
            .iter()
            .map(|(name, weight)| (name.clone(), weight.as_detached_tensor()))
            .collect()
    }

    /// Writes a checkpoint, and the curve of the run so far.
    fn keep(&self) -> Result<(), TrainError> {
        let stored = Stored {
            weights: self.weights().into_iter().collect::<HashMap<_, _>>(),
            moments: self.optimiser.tensors(),
        };
        self.checkpoints
            .write(&self.state, stored, self.options.keep_checkpoints)?;
        let title = format!("{}: {} steps", self.origin.profile.name, self.state.step);
        let curve = curve::svg(&self.state.history, &title);
        files::write(&self.options.output.join(files::CURVE), curve.as_bytes())
    }

    fn finish(mut self, ended: Ended) -> Result<Outcome, TrainError> {
        let mut outcome = self.outcome(ended);
        if ended == Ended::Interrupted {
            return Ok(outcome);
        }
        if let Some(best) = self.state.best {
            self.take_best(best)?;
            let measured = self.measure()?;
            let held_out = &self.examples.held_out;
            let delivered = measured.fit(&mut self.origin.profile.guard, held_out);
            let corrections: Vec<bool> = delivered
                .iter()
                .zip(held_out)
                .filter(|(_, triple)| !examples::is_clean(triple))
                .map(|(delivered, _)| *delivered)
                .collect();
            outcome.loss_as_written = Some(measured.loss);
            outcome.exact = Some(measured.exact());
            outcome.delivered = Some(share(&delivered));
            outcome.delivered_corrections = (!corrections.is_empty()).then(|| share(&corrections));
            parts::write_profile(&self.origin.profile, &self.options.output)?;
        }
        let path = self.options.output.join(files::WEIGHTS);
        files::write_weights(&path, &self.weights(), self.state.precision)?;
        self.record(&outcome)?;
        Ok(outcome)
    }

    /// What came of the run before anything was measured on what is written.
    fn outcome(&self, ended: Ended) -> Outcome {
        let examples = &self.examples;
        Outcome {
            ended,
            output: self.options.output.clone(),
            parameters: self.model.parameters(),
            triples: examples.triples,
            clean_triples: examples.clean,
            own_triples: examples.own,
            dropped_keys: self.origin.dropped_keys.clone(),
            validation_triples: examples.validation.len(),
            validation_corrections: examples
                .held_out
                .iter()
                .filter(|triple| !examples::is_clean(triple))
                .count(),
            validation_repeated: examples.validation_repeated,
            validation_left_out: examples.validation_left_out,
            validation_too_long: examples.validation_too_long,
            skipped: examples.skipped_too_long + examples.skipped_undecided,
            skipped_too_long: examples.skipped_too_long,
            skipped_undecided: examples.skipped_undecided,
            shortened: examples.shortened,
            max_tokens: examples.max_tokens,
            step: self.state.step,
            steps: self.schedule.steps,
            tokens: self.state.tokens,
            seconds: self.state.seconds,
            first_validation_loss: self
                .state
                .history
                .validation
                .first()
                .filter(|point| point.step == 0)
                .map(|point| point.loss),
            best_validation: self.state.best,
            loss_as_written: None,
            precision: self.state.precision,
            exact: None,
            delivered: None,
            delivered_corrections: None,
            history: self.state.history.clone(),
        }
    }

    /// Goes back to the best weights, as they are written: rounding moves probabilities, and may turn
    /// the likeliest token into another.
    fn take_best(&mut self, best: Point) -> Result<(), TrainError> {
        let weights = self.checkpoints.read_best(best.step)?;
        let weights =
            files::stored_as(self.state.precision, weights).map_err(|source| self.on(source))?;
        let shape = self.origin.shape.clone();
        self.model = Model::with_weights(shape, weights, &self.device)
            .map_err(|source| self.on(source))?
            .map_err(|problem| TrainError::Checkpoint {
                file: self.options.output.display().to_string(),
                problem,
            })?;
        Ok(())
    }

    /// Writes `training.json`: origin, recipe, data and outcome.
    fn record(&self, outcome: &Outcome) -> Result<(), TrainError> {
        let options = self.options;
        let mut outcome = serde_json::to_value(outcome).expect("numbers and words are always JSON");
        outcome
            .as_object_mut()
            .map(|fields| fields.remove("output"));
        let json = serde_json::json!({
            "base": self.state.base,
            "name": self.origin.profile.name,
            "data_digest": self.data,
            "device": options.device.to_string(),
            "recipe": options.recipe,
            "outcome": outcome,
        });
        let text = serde_json::to_string_pretty(&json).expect("it is JSON already");
        files::write(&options.output.join(files::RECORD), text.as_bytes())
    }
}

struct Stepped {
    loss: f64,
    rate: f64,
    norm: f64,
    tokens: u64,
}

fn share(of: &[bool]) -> f64 {
    let count = of.iter().filter(|held| **held).count();
    count as f64 / of.len().max(1) as f64
}
