//! The chart and the image, checked by the tools that their users run.
