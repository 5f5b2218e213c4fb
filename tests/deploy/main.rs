//! The chart and the image, checked by the tools that their users run: Helm, the schemas of the
//! Kubernetes API, a Dockerfile linter, and the connector's own `validate`.
//!
//! Tools come from `tools.sh`, which installs what is missing into `target/tools`.

mod chart;
mod image;
mod schema;
mod tools;
