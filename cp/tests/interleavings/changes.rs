//! Changes of a notice, and readers that sleep until they come.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use loom::future::block_on;
use loom::thread;

use crate::watched::{Watched, Watcher};
use crate::with_three_threads;

/// Sleeps until the notice reads `wanted`.
fn wait_for(mut reader: Watcher<u8>, wanted: u8) {
    block_on(poll_fn(|cx| reader.poll_until(|value| *value == wanted, cx)));
}

/// A reader that has seen what the notice reads now: it sleeps at its first poll.
fn abreast(notice: &Watched<u8>) -> Watcher<u8> {
    let mut reader = notice.subscribe();
    assert!(reader.poll_changed(&mut Context::from_waker(Waker::noop())).is_ready());
    reader
}

#[test]
fn a_change_is_not_slept_through_whenever_it_comes() {
    loom::model(|| {
        let notice = Watched::new(0);
        let changing = notice.clone();
        let change = thread::spawn(move || changing.change(1));
        wait_for(notice.subscribe(), 1);
        change.join().unwrap();
    });
}

#[test]
fn every_reader_is_woken() {
    with_three_threads(|| {
        let notice = Watched::new(0);
        let sleepers = [abreast(&notice), abreast(&notice)].map(|reader| thread::spawn(|| wait_for(reader, 1)));
        notice.change(1);
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

#[test]
fn a_reader_that_goes_while_a_change_wakes_it_takes_nobody_s_waker_with_it() {
    with_three_threads(|| {
        let notice = Watched::new(0);
        let (mut leaving, staying) = (abreast(&notice), abreast(&notice));
        let leaves = thread::spawn(move || {
            // Its waker is there, or it has seen the change; then it is gone.
            let _ = block_on(poll_fn(|cx| Poll::Ready(leaving.poll_changed(cx))));
        });
        let stays = thread::spawn(|| wait_for(staying, 1));
        notice.change(1);
        leaves.join().unwrap();
        stays.join().unwrap();
    });
}

#[test]
fn of_two_changes_the_last_is_seen_and_none_twice() {
    loom::model(|| {
        let notice = Watched::new(0);
        let changing = notice.clone();
        let changes = thread::spawn(move || {
            changing.change(1);
            changing.change(2);
        });
        let mut reader = notice.subscribe();
        let mut seen = Vec::new();
        while seen.last() != Some(&2) {
            block_on(poll_fn(|cx| reader.poll_changed(cx)));
            seen.push(*reader.value());
        }
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
        changes.join().unwrap();
    });
}
