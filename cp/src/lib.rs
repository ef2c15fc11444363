//! Last Call, the reference control plane: a PostgreSQL front whose drain cannot be held by idle clients and never cuts
//! running work.
//!
//! What it decides is `lastcall-core`'s, and [`lastcall_core::drain`] the place where it is decided when a connection ends;
//! everything here moves bytes, through one trait for the world outside, [`lastcall_world::World`]. [`accept::serve`] is the
//! process.

pub mod accept;
pub mod admin;
mod cancel;
pub mod config;
mod connection;
pub mod control;
mod goodbye;
pub mod handover;
#[cfg(test)]
mod in_memory;
pub mod lifecycle;
mod line;
pub mod log;
pub mod orders;
mod pending;
pub mod records;
mod registry;
mod relay;
pub mod reload;
mod session;
mod startup;
mod status;
mod supervisor;
mod sync;
mod throttle;
pub mod tls;
mod who;
mod worker;
mod workers;
