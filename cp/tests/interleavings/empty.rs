//! The registry that empties, and the one who waits for that and closes it.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use loom::future::block_on;
use loom::thread;

use crate::registry::Registry;
use crate::with_three_threads;
use lastcall_core::{EndReason, Settings, Time};

const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// Behind the lame duck of a drain that began at the epoch.
const LATER: Time = Time::from_epoch(std::time::Duration::from_secs(60));

/// A registry whose process drains, in its lame duck.
fn draining() -> Registry {
    let registry = Registry::new(std::sync::Arc::new(Settings::default()), 0);
    registry.order(|process| process.handle_term(Time::EPOCH));
    registry
}

#[test]
fn whoever_waits_for_the_last_to_leave_is_woken() {
    with_three_threads(|| {
        let registry = draining();
        let enter = || registry.enter(PEER, Time::EPOCH).unwrap();
        let (left, vacated) = (enter(), enter());
        let leaving = thread::spawn(move || drop(left.leave(EndReason::Boundary, Time::EPOCH)));
        let vacating = thread::spawn(move || vacated.vacate());
        block_on(poll_fn(|cx| registry.poll_exit(LATER, cx)));
        assert_eq!(registry.connections(), 0);
        leaving.join().unwrap();
        vacating.join().unwrap();
    });
}

#[test]
fn whoever_enters_while_the_registry_is_closed_is_waited_for_or_too_late() {
    with_three_threads(|| {
        let registry = draining();
        let entering = registry.clone();
        let enters = thread::spawn(move || {
            if let Some(slot) = entering.enter(PEER, Time::EPOCH) {
                slot.leave(EndReason::Boundary, Time::EPOCH);
            }
        });
        block_on(poll_fn(|cx| registry.poll_exit(LATER, cx)));
        // Whoever was let in has left, and nobody is let in any more.
        assert_eq!(registry.connections(), 0);
        enters.join().unwrap();
    });
}
