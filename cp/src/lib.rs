//! Last Call, the reference control plane: a PostgreSQL front whose drain cannot be held by idle clients and never cuts
//! running work.
//!
//! New guests are turned away politely, those at the table finish. [`core`] is the pure part, and [`core::drain`] the place
//! where it is decided when a connection ends; everything around it moves bytes, through one trait for the world outside,
//! [`world::World`]. [`server::serve`] is the process.

pub mod admin;
mod alarm;
mod cancel;
pub mod config;
mod connection;
pub mod core;
mod course;
pub mod crew;
mod crowd;
#[cfg(test)]
mod in_memory;
pub mod lifecycle;
pub mod log;
pub mod meter;
pub mod notice;
mod orders;
mod registry;
mod relay;
mod remote;
pub mod server;
mod startup;
mod status;
mod sync;
mod throttle;
mod tokio_world;
mod watch;
mod who;
mod worker;
pub mod world;
