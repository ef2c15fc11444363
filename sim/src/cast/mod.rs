//! The hosts of a simulation: the pod, its kubelet, the workers, and the clients.

mod actor;
mod application;
pub mod client;
pub(crate) mod deployment;
mod faults;
mod frame;
pub mod history;
pub mod kubelet;
mod ledger;
mod player;
pub mod pod;
pub mod pool;
mod raw_client;
mod raw_link;
pub mod run;
mod script;
pub mod service;
pub mod statement;
pub mod tap;
#[cfg(test)]
mod test_world;
#[cfg(test)]
mod tests;
pub mod worker;
