//! What follows from an activity alone.

use lastcall_core::{Activity, EndReason};

#[test]
fn a_pause_inside_a_transaction_and_a_statement_that_waits_for_its_client_hold_the_worker() {
    use Activity::*;
    let of_all = |what: fn(Activity) -> bool| Activity::ALL.into_iter().filter(|activity| what(*activity)).collect();
    let (pauses, holders): (Vec<_>, Vec<_>) = (of_all(Activity::is_pause), of_all(Activity::holds_worker));
    assert_eq!(pauses, [IdleInTransaction, OpenBatch]);
    assert_eq!(holders, [IdleInTransaction, StreamingOut, CopyIn, OpenBatch]);
}

#[test]
fn activities_and_reasons_are_shown_by_their_names() {
    assert_eq!((Activity::CopyIn.to_string(), EndReason::Wall.to_string()), ("copy_in".to_owned(), "wall".to_owned()));
}
