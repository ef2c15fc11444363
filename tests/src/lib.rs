//! Whole-process tests live under `tests/`.
