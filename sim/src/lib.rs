//! Deterministic simulation of the control plane.
pub mod history;
