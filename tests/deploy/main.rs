//! The chart, the image and the scripts, checked by the tools that their users run: Helm, the schemas of the
//! Kubernetes API, a Dockerfile and a shell linter, and the connector's own `validate`.
//!
//! Tools come from `tools.sh`, which installs what is missing into `target/tools`.

mod alerts;
mod chart;
mod dashboard;
mod image;
mod metrics;
mod notes;
mod nulls;
mod options;
mod schema;
mod scripts;
mod tools;
mod variables;
