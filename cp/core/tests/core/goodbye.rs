//! How long a client has for its last words, and when it is let go.

use std::sync::Arc;
use std::time::Duration;

use lastcall_core::goodbye::Goodbye;
use lastcall_core::{Drain, Settings, Time, Verdict};

fn at(millis: u64) -> Time {
    Time::from_epoch(Duration::from_millis(millis))
}

/// A drain whose `close_linger` is 5 seconds, and whose `stall_grace` is 5 minutes.
fn drain() -> Drain {
    Drain::new(Arc::new(Settings::default()))
}

/// The verdict about a client that has ended its side, or not, after the look that is due, which finds so much unacknowledged.
fn looked(goodbye: &mut Goodbye, unacknowledged: usize, ended: bool, now: Time) -> Verdict {
    assert_eq!(goodbye.verdict(ended, &drain(), now), Verdict::LookNow);
    goodbye.handle_look(unacknowledged, &drain(), now);
    goodbye.verdict(ended, &drain(), now)
}

#[test]
fn a_client_that_acknowledges_nothing_is_let_go_behind_close_linger() {
    let mut goodbye = Goodbye::spoken(&drain(), at(0));
    assert_eq!(looked(&mut goodbye, 100, false, at(1000)), Verdict::CarryOn);
    assert_eq!(looked(&mut goodbye, 100, false, at(5999)), Verdict::CarryOn, "5 s behind the first look");
    assert_eq!(goodbye.next_timeout(&drain()), at(6000));
    assert_eq!(goodbye.verdict(false, &drain(), at(6000)), Verdict::LetGo);
}

#[test]
fn a_client_that_acknowledges_a_byte_has_close_linger_anew() {
    let mut goodbye = Goodbye::spoken(&drain(), at(0));
    goodbye.handle_look(100, &drain(), at(0));
    assert_eq!(looked(&mut goodbye, 99, false, at(4000)), Verdict::CarryOn);
    assert_eq!(looked(&mut goodbye, 99, false, at(8999)), Verdict::CarryOn);
    assert_eq!(goodbye.verdict(false, &drain(), at(9000)), Verdict::LetGo);
}

#[test]
fn a_client_that_reads_on_and_on_has_no_longer_than_stall_grace() {
    let mut goodbye = Goodbye::spoken(&drain(), at(0));
    for second in 1..300 {
        assert_eq!(looked(&mut goodbye, 1000 - second, false, at(second as u64 * 1000)), Verdict::CarryOn);
    }
    assert_eq!(goodbye.deadline(&drain()), at(300_000));
    assert_eq!(looked(&mut goodbye, 1, false, at(300_000)), Verdict::LetGo);
}

#[test]
fn a_client_is_let_go_when_it_has_all_and_has_ended_its_side() {
    let mut goodbye = Goodbye::spoken(&drain(), at(0));
    assert_eq!(looked(&mut goodbye, 1, true, at(1000)), Verdict::CarryOn, "a byte is missing");
    assert!(!goodbye.has_arrived());
    assert_eq!(looked(&mut goodbye, 0, false, at(2000)), Verdict::CarryOn, "it may still send");
    assert!(goodbye.has_arrived());
    assert_eq!(goodbye.next_timeout(&drain()), at(7000), "nothing is left to look at");
    assert_eq!(goodbye.verdict(false, &drain(), at(6999)), Verdict::CarryOn);
    assert_eq!(goodbye.verdict(true, &drain(), at(6999)), Verdict::LetGo);
    assert_eq!(goodbye.verdict(false, &drain(), at(7000)), Verdict::LetGo);
}

#[test]
fn where_there_is_nothing_to_say_a_client_that_has_all_is_let_go_at_once() {
    let mut goodbye = Goodbye::silent(&drain(), at(0));
    assert_eq!(looked(&mut goodbye, 0, false, at(0)), Verdict::LetGo);
    assert!(!goodbye.has_begun(), "our side does not end before the socket is closed");
}

#[test]
fn where_there_is_nothing_to_say_an_answer_under_way_arrives_first() {
    let mut goodbye = Goodbye::silent(&drain(), at(0));
    assert!(!goodbye.has_begun(), "it is not known yet");
    assert_eq!(looked(&mut goodbye, 1, false, at(0)), Verdict::CarryOn);
    assert!(goodbye.has_begun());
    assert_eq!(looked(&mut goodbye, 0, false, at(1000)), Verdict::CarryOn, "it may still send");
    assert_eq!(goodbye.verdict(true, &drain(), at(1000)), Verdict::LetGo);
    assert!(goodbye.has_begun());
}

#[test]
fn what_is_acknowledged_is_looked_at_soon_and_then_twenty_times_a_second() {
    let mut goodbye = Goodbye::spoken(&drain(), at(0));
    let mut looks = vec![];
    for _ in 0..10 {
        let look = goodbye.next_timeout(&drain());
        assert_eq!(goodbye.verdict(false, &drain(), Time::from_epoch(look.since_epoch() / 2)), Verdict::CarryOn);
        assert_eq!(looked(&mut goodbye, 100, false, look), Verdict::CarryOn);
        looks.push(look.since_epoch().as_millis());
    }
    assert_eq!(looks, [1, 2, 4, 8, 16, 32, 64, 114, 164, 214]);
}

#[test]
fn a_look_is_brought_forward_and_never_put_off() {
    let mut goodbye = Goodbye::spoken(&drain(), at(0));
    for _ in 0..10 {
        goodbye.handle_look(100, &drain(), at(100));
    }
    goodbye.look_at(at(120));
    assert_eq!(goodbye.next_timeout(&drain()), at(120));
    goodbye.look_at(at(130));
    assert_eq!(goodbye.next_timeout(&drain()), at(120));
}
