//! Any control plane can be judged: a naive proxy under the same files as `lastcall`, and which promises each keeps.

use std::path::Path;

use lastcall_world::World;
use sim::scenario::Promise;
use sim::{Config, LastCall, Suite};

#[path = "../examples/naive/proxy.rs"]
mod naive;

/// The example of `lastcall-core`: a proxy of 150 lines.
#[path = "../../cp/core/examples/tokio.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is started here, and not by its main function")]
mod example;

/// A few files, each of which some proxy gets wrong.
const FILES: [&str; 9] = [
    "acceptance/idle-clients-cannot-hold-the-pod",
    "acceptance/long-query-is-not-cut",
    "acceptance/transaction-opened-during-the-drain-commits",
    "acceptance/a-sigquit-is-obeyed-at-once",
    "acceptance/a-vanished-client-is-given-up",
    "acceptance/an-unreachable-worker-is-named",
    "incidents/billing-at-drain",
    "incidents/connect-during-drain",
    "incidents/wedged-statement",
];

fn suite() -> Suite {
    // Paths in the table are those that a user types at the root.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("the workspace is there");
    let paths = FILES.map(|file| format!("scenarios/{file}.toml"));
    let [first, rest @ ..] = &paths;
    rest.iter().fold(Suite::new(first), Suite::and)
}

async fn drain_aware<W: World>(world: W, config: Config) -> u8 {
    let served = example::serve(world, &config.listen, &config.worker, config.settings.clone()).await;
    served.expect("the address is free")
}

#[test]
fn a_proxy_that_waits_for_every_connection_is_held_by_idle_clients() {
    let suite = suite().pod("lastcall", LastCall).pod("example", drain_aware).pod("naive", naive::serve);
    let table = suite.run().expect("the files are good");
    assert!(table.column("example").on(Promise::BoundedExit).broken.is_empty(), "{table}");
    assert!(table.column("example").on(Promise::NeverCut).broken.is_empty(), "{table}");
    let broken = table.column("naive").on(Promise::BoundedExit).broken;
    assert!(broken.contains_key("scenarios/acceptance/idle-clients-cannot-hold-the-pod.toml"), "{table}");
    insta::assert_snapshot!(table);
}
