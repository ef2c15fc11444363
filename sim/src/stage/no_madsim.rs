//! In the place of the engine on `madsim`, in a program that was built without it.

use std::time::Duration;

use super::{Capabilities, Ending, Engine, Host, Plan, turmoil_net};

/// What to do about it.
pub const REMEDY: &str = "this program was built without `--cfg madsim`, which .cargo/config.toml sets: build it in the \
    repository, and without a RUSTFLAGS of your own, or add `--cfg madsim` to that";

/// The engine that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Madsim;

impl Engine for Madsim {
    type World = turmoil_net::World;

    const NAME: &'static str = "madsim";

    /// So that nothing is skipped for another reason than the true one.
    const SUPPORTS: Capabilities = turmoil_net::TurmoilNet::SUPPORTS;

    fn resolution(limit: Duration) -> Duration {
        turmoil_net::TurmoilNet::resolution(limit)
    }

    fn simulate(_plan: Plan, _hosts: Vec<Host<Self::World>>) -> Ending {
        panic!("{REMEDY}")
    }
}
