//! The models of pools agree with what real ones were seen to do in a rollout.

use sim::cast::pod::last_call;
use sim::pools::Pools;
use sim::scenario::PoolKind;

#[test]
fn a_pool_that_looks_at_nothing_loses_one_request_for_each_connection_and_one_that_retires_in_time_none() {
    let pools = Pools::roll(&last_call(), &[PoolKind::Psycopg, PoolKind::PsycopgCheck], 1, || {});
    let blind = &pools.cells["psycopg-pool"];
    let seen = &blind["idle-aware"];
    assert!((6..=16).contains(&seen.failed) && seen.in_doubt == 0, "{seen:?}");
    assert_eq!(blind["idle-aware, twice the lifetime"].failed, 0, "{blind:?}");
    // A cap cuts what runs: of such a request nobody knows.
    assert!(blind["flat"].failed > 0 && blind["unbounded"].slowest_ms > 10_000, "{blind:?}");
    let checks = &pools.cells["psycopg-pool-check"]["idle-aware"];
    assert!(checks.failed <= 3 && checks.in_doubt == 0, "{checks:?}");
}
