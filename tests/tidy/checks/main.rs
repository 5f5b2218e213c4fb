//! What the repository promises of itself, checked from its files.
