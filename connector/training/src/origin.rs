//! What a run begins with: its base, or the newest checkpoint of its own.

use std::{collections::HashMap, path::Path};

use aligner::Profile;
use aligner_checkpoint::INDEX;
use candle_core::Tensor;

use crate::{
    data::Split,
    error::TrainError,
    files::{self, BaseFiles},
    fit,
    options::{Base, Precision, TrainOptions},
    parts::Parts,
    shape::Shape,
    state::{Checkpoints, State},
};

/// A model as the run finds it.
pub(crate) struct Origin {
    /// Goes beside the trained weights.
    pub profile: Profile,
    pub shape: Shape,
    /// None for random weights.
    pub weights: Option<HashMap<String, Tensor>>,
    /// How errors call their file.
    pub weights_file: String,
    pub moments: Option<HashMap<String, Tensor>>,
    /// None of a new run.
    pub state: Option<State>,
    pub precision: Precision,
    /// Name of the Aligner that the run begins with; none from scratch, or when resumed.
    pub base_name: Option<String>,
    /// Keys of the base's `generation_config.json` that are left behind and change outputs; none
    /// when resumed.
    pub dropped_keys: Vec<String>,
}

/// From the newest checkpoint of the output folder if the run is to go on, and else from its base.
pub(crate) fn resume_or_start(
    options: &TrainOptions,
    split: &Split,
) -> Result<(Parts, Origin), TrainError> {
    let checkpoints = Checkpoints::of(&options.output);
    let Some(path) = checkpoints.newest()? else {
        return start(options, split);
    };
    // The weights are written last.
    let finished = options.output.join(files::WEIGHTS).is_file();
    if !options.resume {
        return Err(TrainError::Option {
            option: "output",
            value: options.output.display().to_string(),
            expected: if finished {
                "which holds a finished run; to go on from it, name it by --from and another folder \
                 by --output"
            } else {
                "which holds checkpoints of an earlier run; resume it, or give another folder"
            },
        });
    }
    let (state, stored) = checkpoints.read(&path)?;
    let parts = Parts::of(&BaseFiles::read(&Base::Folder(options.output.clone()))?)?;
    state
        .check_origin(options, &parts.profile.name, &path)
        .and_then(|()| state.check(&options.recipe, &split.digest, &path))
        .map_err(|error| match finished {
            true => error.of_finished(&options.output),
            false => error,
        })?;
    let origin = Origin {
        profile: parts.profile.clone(),
        shape: Shape::from_config(&parts.config, &parts.config_file)?,
        weights: Some(stored.weights),
        weights_file: path.display().to_string(),
        moments: Some(stored.moments),
        precision: state.precision,
        state: Some(state),
        base_name: None,
        dropped_keys: Vec::new(),
    };
    Ok((parts, origin))
}

/// A new run: reads or makes the base, and with it all of the result but its weights.
fn start(options: &TrainOptions, split: &Split) -> Result<(Parts, Origin), TrainError> {
    options.check_new_output()?;
    let base = BaseFiles::read(&options.base)?;
    let (mut parts, weights, base_name) = match &options.base {
        Base::Scratch(scratch) => {
            let parts = Parts::scratch(scratch, options, &split.training)?;
            (parts, None, None)
        }
        Base::Folder(_) | Base::Files { .. } => {
            let parts = Parts::of(&base)?;
            let name = parts.profile.name.clone();
            (parts, Some(base.weights()?), Some(name))
        }
    };
    // Two Aligners of one name could not be told apart in what they corrected.
    let folder = options.output.file_name().map(|n| n.to_string_lossy());
    if let Some(name) = options.name.as_deref().or(folder.as_deref()) {
        name.clone_into(&mut parts.profile.name);
    }
    fit::to_corrections(&mut parts.profile.guard, &split.training, &split.held_out);
    let stored = weights.as_ref().map_or(Precision::F32, files::precision_of);
    let precision = options.precision.unwrap_or(stored);
    for key in ["torch_dtype", "dtype"] {
        if let Some(value) = parts.config.get_mut(key) {
            *value = precision.torch_name().into();
        }
    }
    let origin = Origin {
        profile: parts.profile.clone(),
        shape: Shape::from_config(&parts.config, &parts.config_file)?,
        weights,
        weights_file: base.file(files::WEIGHTS),
        moments: None,
        state: None,
        precision,
        base_name,
        dropped_keys: parts.dropped_keys.clone(),
    };
    Ok((parts, origin))
}

impl TrainOptions {
    /// Whether a run that is to go on has no checkpoint to go on from.
    ///
    /// # Errors
    /// If the folder of its checkpoints cannot be read, or no run may begin there.
    pub fn begins_anew(&self) -> Result<bool, TrainError> {
        let anew = self.resume && Checkpoints::of(&self.output).newest()?.is_none();
        if anew {
            self.check_new_output()?;
        }
        Ok(anew)
    }

    /// A run that begins writes over no model.
    fn check_new_output(&self) -> Result<(), TrainError> {
        let refuse = |expected| {
            Err(TrainError::Option {
                option: "output",
                value: self.output.display().to_string(),
                expected,
            })
        };
        if let Base::Folder(folder) = &self.base
            && same_folder(folder, &self.output)
        {
            return refuse("which is the folder that the run starts from; give another folder");
        }
        if [files::WEIGHTS, INDEX]
            .iter()
            .any(|name| self.output.join(name).exists())
        {
            return refuse(
                "which holds a model, and no checkpoint of a run to resume; give another folder",
            );
        }
        Ok(())
    }
}

fn same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
