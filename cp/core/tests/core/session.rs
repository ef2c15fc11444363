//! What a session tells its client, and when it lets go.

use std::sync::Arc;
use std::time::Duration;

use lastcall_core::drain::Pace;
use lastcall_core::fatal::{Fatal, NOT_EXECUTED};
use lastcall_core::session::Session;
use lastcall_core::wire::CancelKey;
use lastcall_core::{Activity, Drain, DrainPolicy, EndReason, Settings, Time, Verdict};

use crate::talk::{WELCOME, messages};

/// A session with the drain and the time, due 15 seconds after a signal.
struct Guest {
    session: Session,
    drain: Drain,
    now: Time,
    /// Bytes that it has taken, and the client's machine has not acknowledged.
    unacknowledged: usize,
}

impl Guest {
    fn at_the_door() -> Guest {
        let drain = Drain::new(Arc::new(Settings::default()));
        Guest { session: Session::new(Pace(0), &drain, Time::EPOCH), drain, now: Time::EPOCH, unacknowledged: 0 }
    }

    fn in_handshake() -> Guest {
        let mut guest = Guest::at_the_door();
        guest.session.handle_startup(&guest.drain, guest.now);
        guest.session.handle_worker_found(&guest.drain, guest.now);
        guest
    }

    fn seated() -> Guest {
        let mut guest = Guest::in_handshake();
        guest.worker(WELCOME);
        guest
    }

    /// What passes to the worker of these messages.
    fn client(&mut self, types: &str) -> usize {
        self.client_bytes(&messages(types))
    }

    fn client_bytes(&mut self, bytes: &[u8]) -> usize {
        self.session.handle_client(bytes, &self.drain, self.now)
    }

    /// These messages pass from the worker into the client's socket.
    fn worker(&mut self, types: &str) {
        let bytes = messages(types);
        assert_eq!(self.worker_bytes(&bytes), bytes.len(), "< {types}");
        self.output(bytes.len(), 0);
    }

    /// These messages come from the worker, and the client's socket takes none of them yet. Returns their length.
    fn worker_blocked(&mut self, types: &str) -> usize {
        let bytes = messages(types);
        assert_eq!(self.worker_bytes(&bytes), bytes.len(), "< {types}");
        self.output(0, bytes.len());
        bytes.len()
    }

    fn worker_bytes(&mut self, bytes: &[u8]) -> usize {
        self.session.handle_worker(bytes, &self.drain, self.now)
    }

    fn output(&mut self, taken: usize, left: usize) {
        self.session.handle_output(taken, left, &self.drain, self.now);
    }

    fn signal(&mut self) {
        self.drain.handle_signal(self.now);
    }

    fn recall(&mut self) {
        self.drain.handle_recall();
        self.session.handle_recall();
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// The verdict, after as many looks as it takes.
    fn verdict(&mut self) -> Verdict {
        if self.session.poll_verdict(&self.drain, self.now) == Verdict::LookNow {
            self.session.handle_look(self.unacknowledged, &self.drain, self.now);
        }
        self.session.poll_verdict(&self.drain, self.now)
    }

    fn is_over(&mut self) -> Option<EndReason> {
        if let Verdict::CloseNow(reason) = self.verdict() { Some(reason) } else { None }
    }

    /// The end that must have come by now, and what the client is told.
    fn farewell(&mut self, expected: EndReason) -> Option<Fatal> {
        assert_eq!(self.verdict(), Verdict::CloseNow(expected));
        self.session.close(expected, &self.drain, self.now);
        assert_eq!(self.session.activity(), Activity::Closing);
        assert_eq!(self.client("Q"), 0, "nothing is forwarded any more");
        self.session.farewell("db:5432")
    }
}

fn detail(fatal: Option<Fatal>) -> Option<String> {
    fatal.expect("somebody to tell").detail
}

#[test]
fn a_session_begins_with_the_first_ready_for_query() {
    let mut guest = Guest::at_the_door();
    let mut seen = vec![guest.session.activity()];
    guest.session.handle_startup(&guest.drain, guest.now);
    seen.push(guest.session.activity());
    guest.session.handle_worker_found(&guest.drain, guest.now);
    seen.push(guest.session.activity());
    guest.pass(1);
    assert_eq!(guest.session.began(), None);
    guest.worker(WELCOME);
    seen.push(guest.session.activity());
    assert_eq!(seen, [Activity::Handshake, Activity::Acquiring, Activity::Handshake, Activity::Idle]);
    assert_eq!(guest.session.began(), Some(guest.now));
}

#[test]
fn the_wait_for_a_worker_does_not_count_against_the_handshake() {
    let mut guest = Guest::at_the_door();
    guest.pass(30);
    guest.session.handle_startup(&guest.drain, guest.now);
    guest.pass(50);
    guest.session.handle_worker_found(&guest.drain, guest.now);
    guest.pass(29);
    assert_eq!(guest.is_over(), None);
    guest.pass(1);
    assert_eq!(guest.is_over(), Some(EndReason::HandshakeTimeout));
}

#[test]
fn an_idle_client_is_closed_when_it_is_due_and_told_nothing_besides() {
    let mut guest = Guest::seated();
    guest.signal();
    guest.pass(15);
    let fatal = guest.farewell(EndReason::Boundary).unwrap();
    assert_eq!((fatal.code, fatal.message.as_str()), ("57P01", "terminating connection due to administrator command"));
    assert!(fatal.detail.is_some_and(|detail| detail.contains("idle_grace")));
}

#[test]
fn a_request_that_comes_when_it_is_due_is_held_and_told_not_executed() {
    let mut guest = Guest::seated();
    guest.signal();
    guest.pass(15);
    assert_eq!(guest.client("Q"), 0);
    assert_eq!(detail(guest.farewell(EndReason::Boundary)).as_deref(), Some(NOT_EXECUTED));
}

#[test]
fn a_request_of_which_half_was_forwarded_is_told_not_executed() {
    let mut guest = Guest::seated();
    let query = messages("Q");
    assert_eq!(guest.client_bytes(&query[..7]), 7);
    guest.signal();
    guest.pass(15);
    assert_eq!(guest.client_bytes(&query[7..]), 0);
    assert_eq!(detail(guest.farewell(EndReason::Boundary)).as_deref(), Some(NOT_EXECUTED));
}

#[test]
fn a_request_held_behind_a_running_one_is_told_not_executed() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.signal();
    guest.pass(15);
    assert_eq!(guest.client("Q"), 0);
    assert_eq!(guest.verdict(), Verdict::CarryOn);
    guest.worker("C Z:I");
    assert_eq!(guest.client("Q"), 0, "shown again");
    assert_eq!(detail(guest.farewell(EndReason::Boundary)).as_deref(), Some(NOT_EXECUTED));
}

#[test]
fn the_clock_that_ran_out_is_named() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("C Z:T");
    guest.signal();
    guest.pass(300);
    assert!(detail(guest.farewell(EndReason::TransactionGrace)).unwrap().contains("transaction_grace"));
    let mut guest = Guest::seated();
    guest.client("P");
    guest.signal();
    guest.pass(300);
    assert!(detail(guest.farewell(EndReason::StallGrace)).unwrap().contains("stall_grace"));
}

#[test]
fn nobody_is_told_anything_before_the_startup_packet() {
    let mut guest = Guest::at_the_door();
    guest.pass(60);
    assert_eq!(guest.farewell(EndReason::HandshakeTimeout), None);
}

#[test]
fn a_handshake_that_outlasts_the_grace_is_told_that_the_system_shuts_down() {
    let mut guest = Guest::in_handshake();
    guest.signal();
    guest.pass(30);
    assert_eq!(guest.farewell(EndReason::ShuttingDown).unwrap().code, "57P03");
}

#[test]
fn a_lost_worker_is_named() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.session.handle_worker_gone();
    let fatal = guest.farewell(EndReason::WorkerLost).unwrap();
    assert_eq!((fatal.code, fatal.detail.as_deref()), ("08006", Some("The worker is db:5432.")));
}

#[test]
fn no_second_fatal_follows_the_workers_own_error() {
    let mut guest = Guest::in_handshake();
    guest.worker("R E:SFATAL\0VFATAL\0\0");
    guest.session.handle_worker_gone();
    assert_eq!(guest.farewell(EndReason::LoginFailed), None);
    // Nor is it the client's doing where that hangs up first.
    let mut guest = Guest::in_handshake();
    guest.worker("R E:SFATAL\0VFATAL\0\0");
    guest.session.handle_client_gone(EndReason::ClientClosed);
    assert_eq!(guest.farewell(EndReason::LoginFailed), None);
}

#[test]
fn no_fatal_is_put_into_the_middle_of_a_workers_message() {
    let mut guest = Guest::seated();
    guest.client("Q");
    let row = messages("D");
    let half = row.len() - 1;
    guest.worker_bytes(&row[..half]);
    guest.session.handle_worker_gone();
    assert_eq!(guest.farewell(EndReason::WorkerLost), None);
}

#[test]
fn a_client_that_leaves_while_a_query_runs_is_let_go_after_its_answer() {
    for leave in [EndReason::Terminate, EndReason::ClientClosed] {
        let mut guest = Guest::seated();
        guest.client("Q");
        if leave == EndReason::Terminate {
            guest.client("X");
        }
        guest.session.handle_client_gone(EndReason::ClientClosed);
        assert_eq!(guest.verdict(), Verdict::CarryOn);
        guest.worker("T D");
        assert_eq!(guest.verdict(), Verdict::CarryOn);
        guest.worker("C Z:T");
        assert_eq!(guest.farewell(leave), None);
    }
}

#[test]
fn a_client_that_resets_its_connection_is_let_go_at_once() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.session.handle_client_gone(EndReason::ClientClosed);
    guest.session.handle_client_gone(EndReason::ClientReset);
    assert_eq!(guest.is_over(), Some(EndReason::ClientReset));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_copy_is_let_go_at_once() {
    // Its data will not come any more, and the worker would wait for it with its locks held.
    for (request, answer) in [("Q", "G"), ("B E S", "2 G"), ("Q", "W")] {
        let mut guest = Guest::seated();
        guest.client(request);
        guest.worker(answer);
        assert_eq!(guest.is_over(), None);
        guest.session.handle_client_gone(EndReason::ClientClosed);
        assert_eq!(guest.is_over(), Some(EndReason::ClientClosed), "{answer}");
    }
}

#[test]
fn malformed_bytes_behind_a_running_query_are_told_after_its_answer() {
    let mut guest = Guest::seated();
    let query = messages("Q");
    assert_eq!(guest.client_bytes(&[&query[..], b"\0\0\0"].concat()), query.len());
    assert_eq!(guest.client_bytes(b"\0\0\0"), 0, "shown again");
    assert_eq!(guest.verdict(), Verdict::CarryOn);
    guest.worker("C Z:I");
    let fatal = guest.farewell(EndReason::Malformed).unwrap();
    assert_eq!(fatal.code, "08P01");
    assert_eq!(fatal.detail.as_deref(), Some("unknown message type 0x00 from the client."));
}

#[test]
fn malformed_bytes_of_the_workers_end_the_session_behind_what_came_before_them() {
    for nonsense in [&b"\0\0"[..], b"Z\0\0\0\x05?"] {
        let mut guest = Guest::seated();
        guest.client("Q");
        let answer = messages("D D C");
        let bytes = [&answer[..], nonsense].concat();
        assert_eq!(guest.worker_bytes(&bytes), answer.len());
        let fatal = guest.farewell(EndReason::WorkerMalformed).unwrap();
        assert_eq!(fatal.code, "08P01");
    }
}

#[test]
fn nonsense_of_the_clients_behind_a_refusal_of_the_workers_is_not_the_workers() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.client_bytes(b"\0\0\0");
    guest.worker("E:SFATAL\0VFATAL\0\0");
    guest.session.handle_worker_gone();
    assert_eq!(guest.is_over(), Some(EndReason::WorkerLost));
}

#[test]
fn a_flush_is_slipped_in_while_draining_once_for_each_unflushed_execute() {
    let mut guest = Guest::seated();
    guest.client("P B E");
    assert!(!guest.session.take_flush(&guest.drain), "not before the signal");
    guest.signal();
    assert!(guest.session.take_flush(&guest.drain));
    assert!(!guest.session.take_flush(&guest.drain));
    assert_eq!(guest.verdict(), Verdict::CarryOn);
    guest.worker("1 2 D C");
    assert_eq!(guest.session.activity(), Activity::OpenBatch);
    guest.client("B E");
    assert!(guest.session.take_flush(&guest.drain));
    assert!(!guest.session.take_flush(&guest.drain));
    guest.client("H S");
    guest.worker("2 C Z:I");
    assert!(!guest.session.take_flush(&guest.drain));
    guest.pass(15);
    guest.client("P B E H");
    assert!(!guest.session.take_flush(&guest.drain), "nothing was forwarded");
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_message_behind_an_execute_is_stalled() {
    // Half a Sync behind the Execute: were it forwarded first, nobody could ask for the answer any more.
    let mut guest = Guest::seated();
    let bytes = messages("B E S");
    let execute = messages("B E").len();
    assert_eq!(guest.client_bytes(&bytes[..execute + 1]), execute);
    assert!(guest.session.take_flush(&guest.drain), "even before the signal");
    assert_eq!(guest.client_bytes(&bytes[execute..execute + 1]), 1);
    guest.signal();
    guest.pass(1000);
    assert_eq!(guest.verdict(), Verdict::CarryOn, "it may be running");
    guest.worker("2 C");
    guest.pass(300);
    assert_eq!(guest.is_over(), Some(EndReason::StallGrace));
}

#[test]
fn an_execute_whose_client_leaves_or_talks_nonsense_is_still_let_finish() {
    for reason in [EndReason::ClientClosed, EndReason::Malformed] {
        let mut guest = Guest::seated();
        guest.client("P B E");
        if reason == EndReason::Malformed {
            assert_eq!(guest.client_bytes(b"\0"), 0);
        } else {
            guest.session.handle_client_gone(reason);
        }
        assert!(guest.session.take_flush(&guest.drain), "{reason}");
        assert_eq!(guest.client_bytes(b"\0"), 0, "shown again");
        assert_eq!(guest.verdict(), Verdict::CarryOn, "{reason}");
        guest.worker("1 2 C");
        assert_eq!(guest.is_over(), Some(reason));
    }
}

#[test]
fn no_flush_follows_a_goodbye() {
    let mut guest = Guest::seated();
    guest.client("P B E");
    guest.signal();
    guest.client("X");
    assert!(!guest.session.take_flush(&guest.drain));
    assert_eq!(guest.verdict(), Verdict::CarryOn);
    guest.session.handle_worker_gone();
    assert_eq!(guest.is_over(), Some(EndReason::Terminate));
}

#[test]
fn no_flush_is_slipped_into_a_session_that_is_over() {
    let mut guest = Guest::seated();
    guest.client("P B E");
    guest.signal();
    guest.session.close(EndReason::Quit, &guest.drain, guest.now);
    assert!(!guest.session.take_flush(&guest.drain));
}

#[test]
fn a_replication_stream_that_is_due_is_read_to_its_messages_end() {
    const SPACE: usize = 4096;
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("W");
    let data = messages("d");
    guest.worker_bytes(&data[..2]);
    guest.signal();
    let limit = |guest: &Guest| guest.session.worker_read_limit(SPACE, &guest.drain, guest.now);
    assert_eq!(limit(&guest), SPACE, "not due yet");
    guest.pass(15);
    assert_eq!(guest.is_over(), None);
    assert_eq!(limit(&guest), 3);
    guest.worker_bytes(&data[2..5]);
    assert_eq!((guest.is_over(), limit(&guest)), (None, 4));
    guest.worker_bytes(&data[5..]);
    assert!(guest.farewell(EndReason::Boundary).is_some());
}

#[test]
fn output_that_the_client_does_not_take_keeps_a_finished_request_open() {
    let mut guest = Guest::seated();
    guest.signal();
    guest.client("Q");
    let answer = guest.worker_blocked("T D C Z:I");
    assert_eq!(guest.session.activity(), Activity::StreamingOut);
    guest.pass(200);
    guest.output(10, answer - 10);
    assert_eq!(guest.is_over(), None);
    guest.pass(299);
    assert_eq!(guest.is_over(), None);
    guest.output(answer - 10, 0);
    assert_eq!(guest.is_over(), Some(EndReason::Boundary), "it is due, and has all");
}

#[test]
fn a_client_that_sends_and_does_not_read_is_stalled_all_the_same() {
    let mut guest = Guest::seated();
    guest.client("B E H");
    guest.worker_blocked("2 D");
    guest.signal();
    guest.pass(1);
    assert_eq!(guest.is_over(), None);
    for _ in 0..2 {
        guest.pass(150);
        assert_eq!(guest.client_bytes(b"B"), 1);
        guest.client_bytes(b"\0\0\0\x04");
    }
    assert_eq!(guest.is_over(), Some(EndReason::StallGrace));
}

#[test]
fn a_copy_in_lives_from_the_bytes_that_its_client_sends() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("G");
    guest.signal();
    guest.pass(299);
    guest.client_bytes(&messages("d")[..1]);
    guest.pass(299);
    assert_eq!(guest.is_over(), None);
    guest.worker("N");
    guest.pass(1);
    assert_eq!(guest.is_over(), Some(EndReason::StallGrace), "a notice that it reads is no data");
}

#[test]
fn pauses_in_transactions_add_up_from_the_signal_on() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("C Z:T");
    guest.pass(1000);
    guest.signal();
    for _ in 0..12 {
        guest.pass(299);
        assert_eq!(guest.is_over(), None);
        guest.client("Q");
        guest.pass(1000);
        assert_eq!(guest.verdict(), Verdict::CarryOn, "the worker's time is free");
        guest.worker("C Z:T");
    }
    guest.pass(11);
    assert_eq!(guest.is_over(), None);
    guest.pass(1);
    assert_eq!(guest.is_over(), Some(EndReason::TransactionBudget));
}

#[test]
fn executing_is_what_the_worker_took_and_nothing_else() {
    let mut guest = Guest::seated();
    for (running, thinking) in [(3, 50), (4, 60)] {
        guest.client("Q");
        guest.pass(running);
        guest.worker("C Z:T");
        guest.pass(thinking);
    }
    assert_eq!((guest.session.executing(), guest.session.answered()), (Duration::from_secs(7), 2));
}

#[test]
fn the_next_timeout_is_the_verdicts() {
    let mut guest = Guest::seated();
    let after = |guest: &Guest, seconds| Some(guest.now + Duration::from_secs(seconds));
    assert_eq!(guest.session.next_timeout(&guest.drain, guest.now), after(&guest, 900));
    guest.client("Q");
    assert_eq!(guest.session.next_timeout(&guest.drain, guest.now), None);
    guest.worker("C Z:I");
    guest.signal();
    let look = guest.now + guest.drain.settings().look_every();
    assert_eq!(guest.session.next_timeout(&guest.drain, guest.now), Some(look));
    guest.pass(1);
    assert_eq!(guest.is_over(), None);
    assert_eq!(guest.session.next_timeout(&guest.drain, guest.now), after(&guest, 14));
    guest.pass(15);
    assert_eq!(guest.session.next_timeout(&guest.drain, guest.now), after(&guest, 0));
}

#[test]
fn pauses_of_a_drain_that_was_taken_back_do_not_count_in_the_next_one() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("C Z:T");
    guest.signal();
    // Eleven pauses of five minutes less a second: five minutes and eleven seconds are left of the budget.
    for _ in 0..11 {
        guest.pass(299);
        guest.client("Q");
        guest.worker("C Z:T");
    }
    guest.recall();
    guest.pass(4000);
    assert_eq!(guest.verdict(), Verdict::CarryOn, "no clock runs in a transaction while serving");
    guest.signal();
    for _ in 0..2 {
        guest.pass(299);
        assert_eq!(guest.is_over(), None);
        guest.client("Q");
        guest.worker("C Z:T");
    }
    guest.pass(300);
    assert_eq!(guest.is_over(), Some(EndReason::TransactionGrace));
}

#[test]
fn a_statement_that_was_cancelled_at_the_wall_of_a_drain_that_was_taken_back_is_cancelled_anew_in_the_next_one() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.signal();
    guest.drain.handle_wall(guest.now);
    assert_eq!(guest.verdict(), Verdict::CancelNow);
    guest.session.handle_cancelled(&guest.drain, guest.now);
    guest.recall();
    assert_eq!(guest.verdict(), Verdict::CarryOn);
    guest.signal();
    guest.drain.handle_wall(guest.now);
    assert_eq!(guest.verdict(), Verdict::CancelNow);
}

#[test]
fn a_request_that_was_held_when_it_was_due_passes_when_the_drain_is_taken_back() {
    let mut guest = Guest::seated();
    guest.signal();
    guest.pass(15);
    assert_eq!(guest.client("Q"), 0);
    guest.recall();
    assert_eq!(guest.client("Q"), messages("Q").len());
}

#[test]
fn the_clock_that_runs_has_the_name_of_its_setting() {
    let mut guest = Guest::at_the_door();
    let clock =
        |guest: &Guest| guest.session.clock(&guest.drain, guest.now).map(|(at, name)| (at.since(guest.now), name));
    let seconds = Duration::from_secs;
    assert_eq!(clock(&guest), Some((seconds(60), "session_init_timeout")));
    guest = Guest::seated();
    assert_eq!(clock(&guest), Some((seconds(900), "idle_timeout")));
    guest.signal();
    assert_eq!(clock(&guest), Some((seconds(15), "idle_grace")));
    guest.client("Q");
    assert_eq!(clock(&guest), None);
    guest.worker("C Z:T");
    assert_eq!(clock(&guest), Some((seconds(300), "transaction_grace")));
    guest.session.close(EndReason::Boundary, &guest.drain, guest.now);
    assert_eq!(clock(&guest), Some((seconds(5), "close_linger")));
}

#[test]
fn a_worker_runs_something_while_it_owes_an_answer_whether_the_client_reads_or_not() {
    let mut guest = Guest::in_handshake();
    assert!(!guest.session.worker_runs(), "a login is no statement");
    guest.worker(WELCOME);
    assert!(!guest.session.worker_runs());
    guest.client("Q");
    assert!(guest.session.worker_runs());
    let rows = guest.worker_blocked("T D");
    assert_eq!(guest.session.activity(), Activity::StreamingOut);
    assert!(guest.session.worker_runs());
    guest.output(rows, 0);
    guest.worker("C Z:I");
    assert!(!guest.session.worker_runs());
    guest.client("Q");
    guest.session.handle_worker_gone();
    assert!(!guest.session.worker_runs(), "nobody is there to run it");
}

#[test]
fn a_batch_whose_sync_never_comes_is_ended_by_the_budget_of_its_pauses() {
    let mut guest = Guest::seated();
    guest.signal();
    let began = guest.now;
    guest.client("P B E H");
    let mut pauses = 0;
    let end = loop {
        // The worker takes a minute for each; that is free. The client takes one too, and moves a byte every time.
        guest.pass(60);
        guest.worker("1 2 C");
        assert_eq!(guest.session.activity(), Activity::OpenBatch);
        guest.pass(60);
        pauses += 1;
        if let Some(reason) = guest.is_over() {
            break reason;
        }
        guest.client("P B E H");
    };
    assert_eq!((end, pauses), (EndReason::TransactionBudget, 60));
    assert_eq!(guest.now.since(began), Duration::from_secs(2 * 60 * 60));
}

#[test]
fn a_copy_whose_worker_takes_no_more_waits_on_the_worker() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("G");
    guest.signal();
    guest.client("d");
    guest.session.handle_input(9, &guest.drain, guest.now);
    assert_eq!(guest.session.activity(), Activity::Executing);
    assert!(guest.session.worker_runs(), "whoever lets go of it must cancel what it is busy with");
    guest.pass(3600);
    assert_eq!(guest.verdict(), Verdict::CarryOn);
    guest.session.handle_input(0, &guest.drain, guest.now);
    assert_eq!((guest.session.activity(), guest.session.since()), (Activity::CopyIn, guest.now));
    guest.pass(300);
    assert_eq!(guest.is_over(), Some(EndReason::StallGrace));
}

#[test]
fn half_a_request_that_the_worker_does_not_take_is_idle_all_the_same() {
    let mut guest = Guest::seated();
    let query = messages("Q");
    guest.client_bytes(&query[..6]);
    guest.session.handle_input(6, &guest.drain, guest.now);
    assert_eq!(guest.session.activity(), Activity::Idle);
}

#[test]
fn a_reader_in_the_middle_of_a_message_is_told_at_its_end_that_the_wall_or_an_administrator_ends_it() {
    for reason in [EndReason::Wall, EndReason::Administrator] {
        let mut guest = Guest::seated();
        guest.client("Q");
        if reason == EndReason::Wall {
            guest.signal();
            guest.drain.handle_wall(guest.now);
        } else {
            guest.session.handle_condemned(guest.now);
        }
        let row = messages("D");
        guest.worker_bytes(&row[..5]);
        guest.output(3, 2);
        assert_eq!(guest.session.activity(), Activity::StreamingOut);
        let patience = Settings::default().wall_patience();
        assert_eq!(guest.verdict(), Verdict::CloseAt(guest.now + patience, reason));
        assert_eq!(guest.session.worker_read_limit(1000, &guest.drain, guest.now), 4, "and no byte of the next one");
        guest.worker_bytes(&row[5..]);
        guest.output(2, 4);
        assert!(detail(guest.farewell(reason)).is_some());
    }
}

#[test]
fn a_statement_that_the_wall_cancelled_ends_by_the_wall_whatever_its_client_said_behind_it() {
    for leave in
        [(|guest: &mut Guest| guest.session.handle_client_gone(EndReason::ClientClosed)) as fn(&mut Guest), |guest| {
            guest.client("X");
        }]
    {
        let mut guest = Guest::seated();
        guest.client("Q");
        leave(&mut guest);
        guest.signal();
        guest.drain.handle_wall(guest.now);
        assert_eq!(guest.verdict(), Verdict::CancelNow);
        guest.session.handle_cancelled(&guest.drain, guest.now);
        guest.worker("E Z:I");
        assert!(guest.farewell(EndReason::Wall).is_some());
    }
}

#[test]
fn a_fatal_of_the_workers_own_is_not_followed_by_a_second_one() {
    let mut guest = Guest::seated();
    guest.worker("E:SFATAL\0VFATAL\0\0");
    assert_eq!(guest.farewell(EndReason::WorkerLost), None);
    // An error that answers a request is none.
    for (request, answer, reason) in [
        ("B E H", "2 E", EndReason::StallGrace),
        ("B E S", "2 E", EndReason::WorkerLost),
        ("Q", "E", EndReason::WorkerLost),
    ] {
        let mut guest = Guest::seated();
        guest.client(request);
        guest.worker(answer);
        guest.signal();
        guest.pass(300);
        if reason == EndReason::WorkerLost {
            guest.session.handle_worker_gone();
        }
        assert!(guest.farewell(reason).is_some(), "{request}");
    }
}

/// A guest whose query was answered in one piece, at the signal: its kernel has taken all, its client nothing.
fn answered(status: &str) -> (Guest, usize) {
    let mut guest = Guest::seated();
    guest.signal();
    guest.client("Q");
    guest.worker(&format!("T D C Z:{status}"));
    let answer = messages("T D C Z:I").len();
    guest.unacknowledged = answer;
    (guest, answer)
}

#[test]
fn an_answer_is_not_delivered_before_its_last_byte_is_acknowledged() {
    let (mut guest, answer) = answered("I");
    guest.pass(15);
    assert_eq!(guest.is_over(), None, "it is due, and its answer lies in a buffer of this machine");
    assert_eq!(guest.session.activity(), Activity::StreamingOut);
    assert_eq!(guest.session.clock(&guest.drain, guest.now).unwrap().1, "stall_grace");
    for left in (1..answer).rev() {
        guest.pass(299);
        guest.unacknowledged = left;
        assert_eq!(guest.is_over(), None, "a byte was acknowledged: it reads, however slowly");
    }
    guest.pass(1);
    guest.unacknowledged = 0;
    assert_eq!(guest.is_over(), Some(EndReason::Boundary));
}

#[test]
fn a_client_whose_machine_acknowledges_no_more_is_stalled_whatever_its_socket_takes() {
    let (mut guest, _) = answered("T");
    guest.pass(15);
    assert_eq!((guest.is_over(), guest.session.activity()), (None, Activity::StreamingOut));
    guest.pass(300);
    assert_eq!(guest.is_over(), Some(EndReason::StallGrace));
}

#[test]
fn nothing_is_looked_at_where_nothing_depends_on_it() {
    let mut guest = Guest::seated();
    for status in ["I", "T"] {
        guest.client("Q");
        guest.worker(&format!("C Z:{status}"));
        assert_ne!(guest.session.poll_verdict(&guest.drain, guest.now), Verdict::LookNow, "serving");
    }
    guest.signal();
    guest.client("Q");
    guest.worker("C Z:I");
    let due = guest.now + Duration::from_secs(15);
    assert_ne!(guest.session.poll_verdict(&guest.drain, guest.now), Verdict::LookNow, "it may have the next request");
    guest.pass(1);
    assert_eq!(guest.session.poll_verdict(&guest.drain, guest.now), Verdict::LookNow);
    assert_eq!(guest.is_over(), None);
    assert_eq!(guest.session.next_timeout(&guest.drain, guest.now), Some(due), "delivered is delivered");
}

#[test]
fn no_clock_ends_anybody_before_it_is_known_whether_he_has_his_answer() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("C Z:I");
    guest.signal();
    guest.pass(14);
    assert_eq!(guest.is_over(), None);
    // Answered, and due, within the same instant.
    guest.client("Q");
    guest.worker("C Z:I");
    guest.pass(1);
    guest.unacknowledged = 1;
    assert_eq!((guest.is_over(), guest.session.activity()), (None, Activity::StreamingOut));
}

#[test]
fn the_clock_of_an_answer_that_was_not_delivered_at_the_signal_starts_there() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("C Z:I");
    guest.unacknowledged = 1;
    guest.pass(60);
    guest.signal();
    guest.pass(1);
    assert_eq!((guest.is_over(), guest.session.activity()), (None, Activity::StreamingOut));
    guest.pass(298);
    assert_eq!(guest.is_over(), None);
    guest.pass(1);
    assert_eq!(guest.is_over(), Some(EndReason::StallGrace));
}

#[test]
fn a_slow_reader_is_not_idle_in_the_steady_state_either() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("T D C Z:I");
    guest.unacknowledged = 1;
    guest.pass(900);
    assert_eq!((guest.is_over(), guest.session.activity()), (None, Activity::StreamingOut));
    guest.pass(3600);
    assert_eq!(guest.is_over(), None);
    guest.unacknowledged = 0;
    guest.pass(1);
    assert_eq!((guest.is_over(), guest.session.activity()), (None, Activity::Idle));
    guest.pass(900);
    assert_eq!(guest.is_over(), Some(EndReason::IdleTimeout));
}

#[test]
fn a_backlog_of_notifications_is_no_answer() {
    let mut guest = Guest::seated();
    guest.worker("A A");
    guest.unacknowledged = messages("A A").len();
    guest.worker_blocked("A");
    assert_eq!(guest.session.activity(), Activity::Idle);
    guest.signal();
    guest.pass(15);
    assert_eq!(guest.is_over(), Some(EndReason::Boundary));
}

#[test]
fn each_request_of_a_pipeline_is_cancelled_at_the_wall() {
    let mut guest = Guest::seated();
    guest.client("Q Q Q");
    guest.signal();
    guest.drain.handle_wall(guest.now);
    for _ in 0..2 {
        assert_eq!(guest.verdict(), Verdict::CancelNow);
        guest.session.handle_cancelled(&guest.drain, guest.now);
        assert!(matches!(guest.verdict(), Verdict::CancelAt(_)), "one is on its way");
        guest.worker("E Z:I");
    }
    assert_eq!(guest.verdict(), Verdict::CancelNow);
    guest.session.handle_cancelled(&guest.drain, guest.now);
    guest.worker("E Z:I");
    assert!(guest.farewell(EndReason::Wall).is_some());
}

#[test]
fn a_cancel_request_that_met_nothing_is_sent_again() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.signal();
    guest.drain.handle_wall(guest.now);
    guest.session.handle_cancelled(&guest.drain, guest.now);
    guest.pass(1);
    assert_eq!(guest.verdict(), Verdict::CancelNow);
}

#[test]
fn a_client_that_left_while_a_statement_runs_has_the_stall_grace_also_while_bytes_of_it_are_held() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.signal();
    guest.pass(20);
    assert_eq!(guest.client("Q"), 0, "held: it is due");
    guest.session.handle_client_left(guest.now);
    guest.pass(299);
    assert!(matches!(guest.verdict(), Verdict::CancelAt(_)));
    assert_eq!(guest.session.clock(&guest.drain, guest.now).unwrap().1, "stall_grace");
    guest.pass(1);
    assert_eq!(guest.verdict(), Verdict::CancelNow);
    guest.session.handle_cancelled(&guest.drain, guest.now);
    guest.worker("E Z:I");
    assert!(!guest.session.was_cut(), "not by the wall");
    assert_eq!(detail(guest.farewell(EndReason::Boundary)).as_deref(), Some(NOT_EXECUTED));
}

#[test]
fn every_fatal_at_a_drain_has_a_detail() {
    for reason in EndReason::ALL {
        let at_drain = reason.fatal(None).filter(|fatal| matches!(fatal.code, "57P01" | "57P03" | "57P05"));
        if let (Some(fatal), true) = (at_drain, reason != EndReason::Quit) {
            assert!(fatal.detail.is_some(), "{reason}");
        }
    }
}

#[test]
fn a_session_has_begun_at_its_first_ready_for_query_and_never_anew() {
    let mut guest = Guest::in_handshake();
    guest.worker("R S");
    assert_eq!(guest.session.began(), None);
    guest.pass(1);
    guest.worker("Z:I");
    let began = Some(guest.now);
    guest.pass(1);
    guest.client("Q");
    guest.worker("C Z:I");
    assert_eq!(guest.session.began(), began);
}

#[test]
fn the_bytes_that_passed_are_counted() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.client("P S");
    let answer = guest.worker_blocked("T D C Z:I");
    guest.output(3, answer - 3);
    let (asked, said) = (messages("Q P S").len(), messages(WELCOME).len() + 3);
    assert_eq!((guest.session.received(), guest.session.sent()), (asked as u64, said as u64));
}

#[test]
fn the_workers_own_key_is_told() {
    let mut guest = Guest::in_handshake();
    assert_eq!(guest.session.worker_key(), None);
    guest.worker(WELCOME);
    assert_eq!(guest.session.worker_key(), CancelKey::read(b"worker's").as_ref());
}

#[test]
fn behind_the_wall_nothing_new_passes() {
    let mut guest = Guest::seated();
    guest.signal();
    guest.drain.handle_wall(guest.now);
    assert_eq!(guest.client("Q"), 0);
}

#[test]
fn behind_a_statement_that_was_cancelled_nothing_new_passes_and_its_client_is_told_so() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.worker("C Z:T");
    guest.client("Q");
    guest.signal();
    guest.session.handle_client_left(guest.now);
    guest.pass(300);
    assert_eq!(guest.verdict(), Verdict::CancelNow);
    guest.session.handle_cancelled(&guest.drain, guest.now);
    guest.worker("E Z:E");
    assert_eq!(guest.client("Q"), 0, "nobody waits for it");
    guest.worker("Z:I");
    assert_eq!(detail(guest.farewell(EndReason::Boundary)).as_deref(), Some(NOT_EXECUTED));
}

#[test]
fn a_cancelled_statement_that_still_answers_is_not_cancelled_again_before_its_time() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.signal();
    guest.drain.handle_wall(guest.now);
    guest.session.handle_cancelled(&guest.drain, guest.now);
    guest.worker("T D");
    assert_eq!(guest.verdict(), Verdict::CancelAt(guest.now + Duration::from_secs(1)));
}

#[test]
fn a_statement_that_was_cancelled_for_its_client_is_cut_when_the_wall_cancels_it_too() {
    let mut guest = Guest::seated();
    guest.client("Q");
    guest.signal();
    guest.session.handle_client_left(guest.now);
    guest.pass(300);
    guest.session.handle_cancelled(&guest.drain, guest.now);
    assert!(!guest.session.was_cut());
    guest.drain.handle_wall(guest.now);
    guest.session.handle_cancelled(&guest.drain, guest.now);
    assert!(guest.session.was_cut());
}

#[test]
fn a_batch_lives_from_the_bytes_of_its_answers_that_its_client_takes() {
    let mut guest = Guest::seated();
    guest.signal();
    guest.client("P H");
    guest.pass(200);
    guest.worker("1");
    guest.pass(299);
    assert_eq!(guest.is_over(), None);
    guest.pass(1);
    assert_eq!(guest.is_over(), Some(EndReason::StallGrace));
}

#[test]
fn a_batch_lives_from_nothing_that_is_tried_in_vain() {
    let mut guest = Guest::seated();
    guest.signal();
    guest.client("P H");
    let notification = guest.worker_blocked("A");
    assert_eq!(guest.session.activity(), Activity::OpenBatch);
    guest.pass(299);
    guest.output(0, notification);
    guest.client("");
    guest.pass(1);
    assert_eq!(guest.is_over(), Some(EndReason::StallGrace));
}

#[test]
fn a_batch_whose_answers_were_held_back_by_its_client_has_its_clock_from_when_they_were_taken() {
    let mut guest = Guest::seated();
    guest.signal();
    guest.client("P B E H");
    let answers = guest.worker_blocked("1 2 C");
    assert_eq!(guest.session.activity(), Activity::StreamingOut);
    guest.pass(200);
    guest.output(answers, 0);
    assert_eq!(guest.session.activity(), Activity::OpenBatch);
    guest.pass(299);
    assert_eq!(guest.is_over(), None);
    guest.pass(1);
    assert_eq!(guest.is_over(), Some(EndReason::StallGrace));
}

#[test]
fn a_client_that_leaves_is_let_go_behind_the_message_that_is_under_way() {
    let mut guest = Guest::seated();
    let notification = messages("A");
    guest.worker_bytes(&notification[..6]);
    guest.output(6, 0);
    guest.client("X");
    assert_eq!(guest.is_over(), None);
    guest.worker_bytes(&notification[6..]);
    guest.output(notification.len() - 6, 0);
    assert_eq!(guest.is_over(), Some(EndReason::Terminate));
}

#[test]
fn a_client_that_leaves_is_let_go_behind_the_answer_that_its_socket_has_not_taken() {
    let mut guest = Guest::seated();
    guest.client("Q X");
    let answer = guest.worker_blocked("C Z:I");
    assert_eq!(guest.is_over(), None);
    guest.output(answer, 0);
    assert_eq!(guest.is_over(), Some(EndReason::Terminate));
}

#[test]
fn a_worker_that_notifications_hold_back_waits_on_its_client() {
    for (answer, turn) in [("T", Activity::Executing), ("G", Activity::CopyIn)] {
        let mut guest = Guest::seated();
        guest.client("Q");
        guest.worker(answer);
        assert_eq!(guest.session.activity(), turn);
        guest.worker_blocked("A");
        assert_eq!(guest.session.activity(), Activity::StreamingOut);
    }
}

#[test]
fn a_client_that_takes_no_more_is_looked_at_a_moment_later() {
    let mut guest = Guest::seated();
    guest.signal();
    guest.client("Q");
    guest.pass(1);
    guest.worker_blocked("T D");
    let look = guest.now + guest.drain.settings().look_every();
    assert_eq!(guest.session.next_timeout(&guest.drain, guest.now), Some(look));
}

#[test]
fn nothing_is_looked_at_while_the_worker_is_waited_for_or_under_an_old_policy() {
    let mut handshake = Guest::in_handshake();
    handshake.worker("R");
    let mut executing = Guest::seated();
    executing.client("Q Q");
    executing.worker("C Z:I");
    let mut unbounded = Guest::seated();
    let settings = Settings { drain_policy: DrainPolicy::Unbounded, ..Settings::default() };
    unbounded.drain = Drain::new(Arc::new(settings));
    for mut guest in [handshake, executing, unbounded] {
        guest.signal();
        guest.pass(1);
        assert_ne!(guest.session.poll_verdict(&guest.drain, guest.now), Verdict::LookNow);
    }
}

#[test]
fn the_wall_is_the_clock_of_what_it_will_cancel_also_where_its_client_has_left() {
    let mut guest = Guest::seated();
    let settings = Settings { handover_drain_timeout: Duration::from_secs(200), ..Settings::default() };
    guest.drain = Drain::new(Arc::new(settings));
    guest.client("Q");
    guest.signal();
    let wall = Some((guest.now + Duration::from_secs(200), "wall"));
    assert_eq!(guest.session.clock(&guest.drain, guest.now), wall);
    guest.session.handle_client_left(guest.now);
    assert_eq!(guest.session.clock(&guest.drain, guest.now), wall);
}
