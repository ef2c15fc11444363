//! The registry that empties, and the one who waits for that.

use std::future::poll_fn;

use loom::future::block_on;
use loom::thread;

use crate::core::{EndReason, Time};
use crate::registry::Registry;
use crate::with_three_threads;

#[test]
fn whoever_waits_for_the_last_to_leave_is_woken() {
    with_three_threads(|| {
        let registry = Registry::default();
        let enter = || registry.enter(std::net::SocketAddr::from(([127, 0, 0, 1], 1)), Time::EPOCH);
        let (left, vacated) = (enter(), enter());
        let leaving = thread::spawn(move || drop(left.leave(EndReason::Boundary, Time::EPOCH)));
        let vacating = thread::spawn(move || vacated.vacate());
        block_on(poll_fn(|cx| registry.poll_empty(cx)));
        assert_eq!(registry.connections(), 0);
        leaving.join().unwrap();
        vacating.join().unwrap();
    });
}
