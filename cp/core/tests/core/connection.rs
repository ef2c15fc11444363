//! A connection that is relayed, from its first byte to its last.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lastcall_core::connection::{CHUNK, ClientSide, Next, Read, Sockets, Written};
use lastcall_core::drain::Pace;
use lastcall_core::fatal::NOT_EXECUTED;
use lastcall_core::session::FLUSH;
use lastcall_core::startup::Packet;
use lastcall_core::wire::Side;
use lastcall_core::{Activity, Connection, Drain, EndReason, Settings, Time};

use crate::talk::{WELCOME, messages};

const STARTUP: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0me\0\0";
const ENCRYPTION: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A socket, and whoever is at its other end.
struct Peer {
    /// What it sends, as far as nobody has read it.
    sends: Vec<u8>,
    /// What it sends as well, and this side has not heard of yet.
    unheard: Vec<u8>,
    /// What follows behind that.
    end: Read,
    /// What its socket took.
    told: Vec<u8>,
    /// How much more it takes.
    room: usize,
    is_broken: bool,
    /// Whether our side can be ended, and whether it was.
    can_end: bool,
    is_ended: bool,
}

impl Default for Peer {
    fn default() -> Self {
        Peer {
            sends: vec![],
            unheard: vec![],
            end: Read::Nothing,
            told: vec![],
            room: usize::MAX,
            is_broken: false,
            can_end: true,
            is_ended: false,
        }
    }
}

/// The two sockets of a connection.
#[derive(Default)]
struct Pair {
    client: Peer,
    worker: Peer,
    /// What became of the client, if somebody asks.
    became: Option<ClientSide>,
    unacknowledged: usize,
}

impl Pair {
    fn peer(&mut self, side: Side) -> &mut Peer {
        if side == Side::Frontend { &mut self.client } else { &mut self.worker }
    }
}

impl Sockets for Pair {
    fn write(&mut self, to: Side, bytes: &[u8]) -> Written {
        let peer = self.peer(to);
        assert!(!bytes.is_empty() && !peer.is_ended, "{to}");
        if peer.is_broken {
            return Written::Broken;
        }
        let taken = bytes.len().min(peer.room);
        peer.room -= taken;
        peer.told.extend(&bytes[..taken]);
        Written::Taken(taken)
    }

    fn read(&mut self, from: Side, limit: usize, take: &mut dyn FnMut(&[u8])) -> Read {
        let peer = self.peer(from);
        assert!((1..=CHUNK).contains(&limit), "{limit}");
        if peer.sends.is_empty() {
            return peer.end;
        }
        let rest = peer.sends.split_off(limit.min(peer.sends.len()));
        take(&std::mem::replace(&mut peer.sends, rest));
        Read::Bytes
    }

    fn end(&mut self, side: Side) -> bool {
        let peer = self.peer(side);
        assert!(!peer.is_ended, "{side}");
        peer.is_ended = peer.can_end;
        peer.can_end
    }

    fn client(&mut self) -> Option<ClientSide> {
        self.became.take()
    }

    fn unacknowledged(&mut self) -> usize {
        self.unacknowledged
    }

    fn refresh(&mut self) {
        for peer in [&mut self.client, &mut self.worker] {
            peer.sends.append(&mut peer.unheard);
        }
    }
}

/// A connection between the two, with the drain and the time; due 15 seconds after a signal.
struct Relay {
    connection: Connection,
    sockets: Pair,
    drain: Drain,
    now: Time,
}

impl Relay {
    fn accepted() -> Relay {
        let drain = Drain::new(Arc::new(Settings::default()));
        let connection = Connection::new(Pace(0), &drain, Time::EPOCH);
        Relay { connection, sockets: Pair::default(), drain, now: Time::EPOCH }
    }

    /// Its startup packet has come, and it waits for a worker.
    fn acquiring() -> Relay {
        let mut relay = Relay::accepted();
        relay.sockets.client.sends = STARTUP.to_vec();
        assert_eq!(relay.drive(), Next::Opened(Packet::Startup(STARTUP.to_vec())));
        relay.connection.handle_startup(STARTUP.to_vec(), &relay.drain, relay.now);
        relay
    }

    /// Its worker has let the client in.
    fn seated() -> Relay {
        let mut relay = Relay::acquiring();
        relay.connection.handle_worker_found(&relay.drain, relay.now);
        relay.worker(WELCOME);
        assert_eq!((relay.told(Side::Backend), relay.told(Side::Frontend)), (STARTUP.to_vec(), messages(WELCOME)));
        relay
    }

    /// What is next when all has been moved that can be moved.
    fn drive(&mut self) -> Next {
        (0..100).map(|_| self.turn()).find(|next| *next != Next::Again).expect("it does not come to rest")
    }

    fn turn(&mut self) -> Next {
        self.connection.drive(&mut self.sockets, &self.drain, self.now)
    }

    /// These messages come from the client.
    fn client(&mut self, types: &str) -> Next {
        self.sockets.client.sends.extend(messages(types));
        self.drive()
    }

    /// These messages come from the worker.
    fn worker(&mut self, types: &str) -> Next {
        self.sockets.worker.sends.extend(messages(types));
        self.drive()
    }

    /// What this side was told since it was last asked.
    fn told(&mut self, side: Side) -> Vec<u8> {
        std::mem::take(&mut self.sockets.peer(side).told)
    }

    fn signal(&mut self) {
        self.drain.handle_signal(self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// It is idle and due, and nothing is known of it that speaks against its end.
    fn due() -> Relay {
        let mut relay = Relay::seated();
        relay.signal();
        relay.pass(15);
        relay
    }

    /// Closes it for this reason, which must be what is next.
    fn close(&mut self, reason: EndReason) -> Next {
        assert_eq!(self.drive(), Next::Close(reason));
        self.connection.close(reason, "db:5432", &self.drain, self.now);
        self.drive()
    }

    fn is_ended(&self) -> [bool; 2] {
        [self.sockets.client.is_ended, self.sockets.worker.is_ended]
    }
}

/// What a client is told that ends for this reason.
fn fatal(reason: EndReason, about: Option<&str>) -> Vec<u8> {
    reason.fatal(about).expect("somebody to tell").encode()
}

/// That long after it, if nothing happens.
fn waits(relay: &Relay, seconds: u64) -> Next {
    Next::Wait(Some(relay.now + Duration::from_secs(seconds)))
}

#[test]
fn nothing_is_read_beyond_the_packet_that_a_connection_opens_with() {
    let mut relay = Relay::accepted();
    relay.sockets.client.sends = [&ENCRYPTION, STARTUP, b"behind"].concat();
    assert_eq!(relay.drive(), Next::Opened(Packet::Startup(STARTUP.to_vec())));
    assert_eq!((relay.told(Side::Frontend), relay.sockets.client.sends.as_slice()), (b"N".to_vec(), &b"behind"[..]));
    assert_eq!(relay.connection.session().sent(), 0, "no byte of a worker's");
}

#[test]
fn a_client_that_does_not_speak_the_protocol_is_let_go_without_a_word() {
    let mut relay = Relay::accepted();
    relay.sockets.client.sends = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    assert_eq!(relay.close(EndReason::Malformed), Next::LetGo);
    assert_eq!((relay.told(Side::Frontend), relay.is_ended()), (vec![], [false, false]));
}

#[test]
fn what_a_client_sends_before_it_has_a_worker_waits_behind_its_startup_packet() {
    let mut relay = Relay::acquiring();
    relay.client("p Q");
    relay.client("Q");
    assert_eq!(relay.sockets.client.sends, messages("Q"), "nothing more is read meanwhile");
    assert_eq!(relay.told(Side::Backend), b"", "there is no socket");
    relay.connection.handle_worker_found(&relay.drain, relay.now);
    relay.drive();
    assert_eq!(relay.told(Side::Backend), [STARTUP, &messages("p")].concat());
    relay.worker(WELCOME);
    assert_eq!(relay.told(Side::Backend), messages("Q Q"));
}

#[test]
fn a_client_for_which_no_worker_is_found_is_told_and_nobody_else() {
    let mut relay = Relay::acquiring();
    relay.client("p");
    relay.pass(60);
    relay.close(EndReason::WorkerUnreachable);
    assert_eq!(relay.told(Side::Frontend), fatal(EndReason::WorkerUnreachable, Some("The worker is db:5432.")));
    assert_eq!((relay.told(Side::Backend), relay.is_ended()), (vec![], [true, false]));
}

#[test]
fn requests_and_answers_pass_as_they_come() {
    let mut relay = Relay::seated();
    assert_eq!(relay.client("Q"), Next::Wait(None));
    assert_eq!(relay.told(Side::Backend), messages("Q"));
    relay.pass(1);
    assert_eq!(relay.worker("T D C Z:I"), waits(&relay, 900));
    assert_eq!(relay.told(Side::Frontend), messages("T D C Z:I"));
    assert_eq!(
        (relay.connection.session().sent(), relay.connection.session().answered()),
        (messages(WELCOME).len() as u64 + messages("T D C Z:I").len() as u64, 1)
    );
}

#[test]
fn a_side_is_read_no_further_while_the_other_one_takes_no_more() {
    let mut relay = Relay::seated();
    relay.sockets.worker.room = 3;
    relay.client("Q");
    relay.client("Q");
    assert_eq!((relay.told(Side::Backend), &relay.sockets.client.sends), (messages("Q")[..3].to_vec(), &messages("Q")));
    relay.sockets.worker.room = usize::MAX;
    relay.drive();
    assert_eq!(relay.told(Side::Backend), [&messages("Q")[3..], &messages("Q")].concat());

    relay.sockets.client.room = 3;
    relay.worker("D");
    relay.worker("C");
    assert_eq!(
        (relay.told(Side::Frontend), &relay.sockets.worker.sends),
        (messages("D")[..3].to_vec(), &messages("C"))
    );
    assert_eq!(relay.connection.session().activity(), Activity::StreamingOut);
    relay.sockets.client.room = usize::MAX;
    relay.drive();
    assert_eq!(relay.told(Side::Frontend), [&messages("D")[3..], &messages("C")].concat());
}

#[test]
fn a_connection_with_much_to_move_gives_others_their_turn() {
    let mut relay = Relay::seated();
    relay.client("Q");
    let row = messages(&format!("D:{}", "x".repeat(20 * CHUNK)));
    relay.sockets.worker.sends = row.clone();
    assert_eq!(relay.turn(), Next::Again);
    assert!(!relay.sockets.worker.sends.is_empty());
    assert_eq!(relay.drive(), Next::Wait(None));
    assert_eq!(relay.told(Side::Frontend), row);
}

#[test]
fn a_copy_whose_worker_takes_no_more_of_it_executes() {
    let mut relay = Relay::seated();
    relay.client("Q");
    relay.worker("G");
    assert_eq!(relay.connection.session().activity(), Activity::CopyIn);
    relay.sockets.worker.room = 3;
    relay.client("d");
    assert_eq!(relay.connection.session().activity(), Activity::Executing);
    relay.sockets.worker.room = usize::MAX;
    relay.drive();
    assert_eq!(relay.connection.session().activity(), Activity::CopyIn);
}

#[test]
fn a_flush_goes_behind_what_has_passed_and_before_what_is_held() {
    let mut relay = Relay::seated();
    let batch = messages("P B E S");
    let passes = messages("P B E").len();
    relay.sockets.client.sends = batch[..passes + 2].to_vec();
    relay.drive();
    assert_eq!(relay.told(Side::Backend), [&batch[..passes], &FLUSH, &batch[passes..passes + 2]].concat());
}

#[test]
fn an_idle_client_that_is_due_is_told_and_read_to_its_end_and_its_worker_said_goodbye() {
    let mut relay = Relay::due();
    assert!(matches!(relay.close(EndReason::Boundary), Next::Wait(Some(_))));
    assert_eq!(relay.told(Side::Frontend), fatal(EndReason::Boundary, None));
    assert_eq!((relay.told(Side::Backend), relay.is_ended()), (b"X\0\0\0\x04".to_vec(), [true, true]));
    relay.pass(1);
    assert_eq!(relay.client("Q"), waits(&relay, 5), "it has all, and has not ended its side");
    assert!(relay.sockets.client.sends.is_empty(), "a close over unread bytes would be a reset");
    relay.worker("N");
    assert!(relay.sockets.worker.sends.is_empty());
    assert_eq!((relay.told(Side::Backend), relay.told(Side::Frontend)), (vec![], vec![]));
    relay.sockets.client.end = Read::End;
    assert_eq!(relay.drive(), Next::LetGo);
}

#[test]
fn behind_the_close_each_side_is_read_though_the_other_one_takes_nothing() {
    let mut relay = Relay::due();
    relay.sockets.client.room = 0;
    relay.sockets.worker.room = 0;
    relay.close(EndReason::Boundary);
    relay.client("Q");
    relay.worker("N");
    assert!(relay.sockets.client.sends.is_empty() && relay.sockets.worker.sends.is_empty());
}

#[test]
fn what_its_worker_said_last_is_kept_for_a_client_that_takes_it_late() {
    let mut relay = Relay::seated();
    relay.client("Q");
    relay.sockets.client.room = 3;
    let last = "D C E:SFATAL\0VFATAL\0\0";
    relay.worker(last);
    relay.close(EndReason::WorkerLost);
    relay.sockets.client.room = usize::MAX;
    relay.drive();
    assert_eq!(relay.told(Side::Frontend), messages(last), "and no FATAL of our own");
}

#[test]
fn a_client_that_never_reads_its_fatal_is_let_go_behind_close_linger() {
    let mut relay = Relay::due();
    relay.sockets.client.room = 0;
    relay.close(EndReason::Boundary);
    relay.sockets.client.end = Read::End;
    let began = relay.now;
    for _ in 0..200 {
        let Next::Wait(Some(look)) = relay.drive() else { break };
        relay.now = look;
    }
    let lasted = relay.now.since(began).as_millis();
    assert!((5000..5100).contains(&lasted), "what its socket has not taken has not arrived: {lasted} ms");
}

#[test]
fn a_client_that_ends_its_side_while_it_is_told_is_looked_at_at_once() {
    let mut relay = Relay::due();
    relay.close(EndReason::Boundary);
    relay.sockets.unacknowledged = 1;
    for _ in 0..10 {
        let Next::Wait(Some(look)) = relay.drive() else { panic!("a byte is missing") };
        relay.now = look;
    }
    let Next::Wait(Some(look)) = relay.drive() else { panic!("a byte is missing") };
    relay.sockets.unacknowledged = 0;
    relay.sockets.client.end = Read::End;
    assert!(relay.now < look);
    assert_eq!(relay.drive(), Next::LetGo);
}

#[test]
fn a_side_that_can_not_be_ended_yet_is_ended_later() {
    let mut relay = Relay::due();
    relay.sockets.client.can_end = false;
    relay.sockets.worker.can_end = false;
    relay.close(EndReason::Boundary);
    assert_eq!(relay.is_ended(), [false, false]);
    relay.sockets.client.can_end = true;
    relay.sockets.worker.can_end = true;
    relay.drive();
    assert_eq!(relay.is_ended(), [true, true]);
}

#[test]
fn a_request_that_comes_when_its_client_is_due_is_not_executed_and_told_so() {
    let mut relay = Relay::due();
    relay.sockets.client.sends = messages("Q");
    relay.close(EndReason::Boundary);
    assert_eq!(relay.told(Side::Frontend), fatal(EndReason::Boundary, Some(NOT_EXECUTED)));
    assert_eq!(relay.told(Side::Backend), b"X\0\0\0\x04");
}

#[test]
fn what_had_arrived_before_a_clock_was_read_counts() {
    let mut relay = Relay::seated();
    relay.pass(900);
    relay.sockets.client.unheard = messages("Q");
    assert_eq!(relay.drive(), Next::Wait(None), "it was not idle");
    assert_eq!(relay.told(Side::Backend), messages("Q"));

    relay.signal();
    relay.drain.handle_wall(relay.now);
    relay.sockets.worker.unheard = messages("C Z:I");
    assert_eq!(relay.drive(), Next::Close(EndReason::Wall), "there is nothing to cancel");
    assert_eq!(relay.told(Side::Frontend), messages("C Z:I"));
}

#[test]
fn a_message_that_had_arrived_is_read_to_its_end_however_late_the_clock_was_read() {
    // More than is read at once, so that its end is behind the first look.
    let length = u32::try_from(CHUNK + 100).unwrap().to_be_bytes();
    let notification = [b"A".as_slice(), &length, &[0; CHUNK + 96]].concat();
    let mut relay = Relay::due();
    relay.pass(60);
    relay.sockets.worker.unheard = notification.clone();
    relay.close(EndReason::Boundary);
    assert_eq!(relay.told(Side::Frontend), [notification.clone(), fatal(EndReason::Boundary, None)].concat());

    let mut relay = Relay::due();
    relay.pass(60);
    relay.sockets.worker.unheard = notification[..CHUNK + 50].to_vec();
    relay.close(EndReason::Boundary);
    assert_eq!(relay.told(Side::Frontend), notification[..CHUNK + 50], "its end has not come, and is not waited for");

    let query = [b"Q".as_slice(), &length, &[b' '; CHUNK + 95], b"\0"].concat();
    let mut relay = Relay::seated();
    relay.client("Q");
    relay.worker("C Z:T");
    relay.signal();
    relay.pass(600);
    relay.sockets.client.unheard = query.clone();
    relay.told(Side::Backend);
    assert_eq!(relay.drive(), Next::Wait(None), "its transaction goes on");
    assert_eq!(relay.told(Side::Backend), query);
}

#[test]
fn a_statement_that_runs_at_the_wall_is_cancelled_and_its_client_told() {
    let mut relay = Relay::seated();
    relay.client("Q");
    relay.signal();
    relay.drain.handle_wall(relay.now);
    assert_eq!(relay.drive(), Next::Cancel);
    assert_eq!(relay.drive(), waits(&relay, 1), "another request follows, should the first one have met nothing");
    assert!(relay.connection.session().was_cut());
    relay.worker("E Z:I");
    relay.close(EndReason::Wall);
    assert_eq!(relay.told(Side::Frontend), [messages("E Z:I"), fatal(EndReason::Wall, None)].concat());
}

#[test]
fn an_answer_that_its_client_has_not_acknowledged_keeps_a_connection_that_is_due() {
    let mut relay = Relay::seated();
    relay.signal();
    relay.client("Q");
    relay.sockets.unacknowledged = 1;
    relay.worker("C Z:I");
    relay.pass(15);
    assert!(matches!(relay.drive(), Next::Wait(Some(_))));
    assert_eq!(relay.connection.session().activity(), Activity::StreamingOut);
    relay.sockets.unacknowledged = 0;
    relay.pass(1);
    assert_eq!(relay.drive(), Next::Close(EndReason::Boundary));
}

#[test]
fn a_drain_that_is_taken_back_counts_no_pause_in_the_next_one() {
    let mut relay = Relay::seated();
    relay.client("Q");
    relay.signal();
    relay.drain.handle_wall(relay.now);
    assert_eq!(relay.drive(), Next::Cancel);
    relay.drain.handle_recall();
    relay.connection.handle_recall();
    assert!(!relay.connection.session().was_cut());
}

#[test]
fn the_end_of_a_client_is_passed_on_behind_what_it_has_sent_and_its_answer_is_delivered() {
    let mut relay = Relay::seated();
    relay.sockets.worker.room = 3;
    relay.sockets.client.end = Read::End;
    relay.client("Q");
    assert_eq!(relay.is_ended(), [false, false], "its request is not all with the worker");
    relay.sockets.worker.room = usize::MAX;
    assert_eq!(relay.drive(), Next::Wait(None));
    assert_eq!((relay.told(Side::Backend), relay.is_ended()), (messages("Q"), [false, true]));
    relay.worker("C Z:I");
    assert_eq!(relay.told(Side::Frontend), messages("C Z:I"));
    assert_eq!(relay.close(EndReason::ClientClosed), Next::LetGo);
    assert_eq!((relay.told(Side::Frontend), relay.told(Side::Backend)), (vec![], vec![]));
}

#[test]
fn a_worker_whose_idle_client_leaves_is_said_goodbye() {
    let mut relay = Relay::seated();
    relay.sockets.client.end = Read::End;
    assert_eq!(relay.close(EndReason::ClientClosed), Next::LetGo);
    assert_eq!((relay.told(Side::Backend), relay.is_ended()), (b"X\0\0\0\x04".to_vec(), [false, true]));
}

#[test]
fn an_answer_that_its_client_has_not_taken_arrives_though_it_said_goodbye() {
    let mut relay = Relay::seated();
    relay.sockets.client.room = 3;
    relay.client("Q X");
    relay.worker("C Z:I");
    relay.pass(1);
    relay.sockets.client.room = usize::MAX;
    relay.sockets.unacknowledged = 5;
    assert_eq!(relay.drive(), Next::Close(EndReason::Terminate));
    relay.connection.close(EndReason::Terminate, "db:5432", &relay.drain, relay.now);
    relay.sockets.client.end = Read::End;
    assert!(matches!(relay.drive(), Next::Wait(Some(_))));
    relay.sockets.unacknowledged = 0;
    relay.pass(1);
    assert_eq!(relay.drive(), Next::LetGo);
    assert_eq!(relay.told(Side::Frontend), messages("C Z:I"));
}

#[test]
fn a_client_that_resets_its_connection_or_takes_nothing_any_more_is_let_go_at_once() {
    let resets: [fn(&mut Relay); 2] =
        [|relay| relay.sockets.client.end = Read::Reset, |relay| relay.sockets.client.is_broken = true];
    for reset in resets {
        let mut relay = Relay::seated();
        relay.client("Q");
        reset(&mut relay);
        relay.worker("D");
        assert_eq!(relay.close(EndReason::ClientReset), Next::LetGo);
        assert_eq!(relay.told(Side::Backend), messages("Q"), "whoever runs something reads no goodbye");
        // And so is one that does it while it is told.
        let mut relay = Relay::due();
        relay.sockets.client.room = 3;
        assert!(matches!(relay.close(EndReason::Boundary), Next::Wait(Some(_))));
        relay.sockets.client.room = usize::MAX;
        reset(&mut relay);
        assert_eq!(relay.drive(), Next::LetGo);
        assert_eq!(relay.connection.next_timeout(&relay.drain, relay.now), Some(relay.now));
    }
}

#[test]
fn whether_a_client_that_is_not_read_is_still_there_is_asked() {
    let mut relay = Relay::seated();
    relay.sockets.became = Some(ClientSide::Gone);
    relay.client("Q");
    assert_eq!(relay.sockets.became, Some(ClientSide::Gone), "who is read tells by himself");
    relay.sockets.worker.room = 3;
    assert_eq!(relay.client("Q"), Next::Close(EndReason::ClientReset));
}

#[test]
fn a_statement_whose_client_left_while_it_was_not_read_has_the_stall_grace() {
    let mut relay = Relay::seated();
    relay.client("Q");
    relay.signal();
    relay.pass(20);
    relay.sockets.became = Some(ClientSide::Left);
    assert_eq!(relay.client("Q"), waits(&relay, 300), "held: it is due");
    relay.pass(300);
    assert_eq!(relay.drive(), Next::Cancel);
}

#[test]
fn a_client_whose_worker_is_lost_is_told_behind_the_workers_last_words() {
    for end in [Read::End, Read::Reset] {
        let mut relay = Relay::seated();
        relay.client("Q");
        relay.sockets.worker.end = end;
        relay.sockets.worker.sends = messages("D");
        assert!(matches!(relay.close(EndReason::WorkerLost), Next::Wait(Some(_))));
        let last = fatal(EndReason::WorkerLost, Some("The worker is db:5432."));
        assert_eq!((relay.told(Side::Frontend), relay.is_ended()[0]), ([messages("D"), last].concat(), true));
    }
}

#[test]
fn a_workers_own_fatal_is_its_clients_last_word() {
    let mut relay = Relay::seated();
    relay.worker("E:SFATAL\0VFATAL\0\0");
    assert!(matches!(relay.close(EndReason::WorkerLost), Next::Wait(Some(_))));
    assert_eq!(relay.told(Side::Frontend), messages("E:SFATAL\0VFATAL\0\0"));
    assert!(relay.is_ended()[0], "our side ends behind it");
}

#[test]
fn a_worker_that_takes_nothing_any_more_may_still_say_why() {
    let mut relay = Relay::seated();
    relay.sockets.worker.is_broken = true;
    assert_eq!(relay.client("Q"), Next::Wait(None));
    relay.worker("E:SFATAL\0VFATAL\0\0");
    assert_eq!(relay.drive(), Next::Close(EndReason::WorkerLost));
    assert_eq!(relay.told(Side::Frontend), messages("E:SFATAL\0VFATAL\0\0"));
}

#[test]
fn what_a_broken_worker_never_takes_of_a_copy_is_not_waited_for() {
    let mut relay = Relay::seated();
    relay.client("Q");
    relay.worker("G");
    relay.sockets.worker.room = 3;
    relay.client("d");
    assert_eq!(relay.connection.session().activity(), Activity::Executing);
    relay.sockets.worker.is_broken = true;
    relay.drive();
    assert_eq!(relay.connection.session().activity(), Activity::CopyIn);
}

#[test]
fn no_goodbye_is_put_into_the_middle_of_a_clients_message() {
    // The client has sent no more of it, or the worker has taken no more.
    let mut half = Relay::seated();
    half.sockets.client.sends = messages("p")[..6].to_vec();
    let mut stuffed = Relay::acquiring();
    stuffed.connection.handle_worker_found(&stuffed.drain, stuffed.now);
    stuffed.drive();
    stuffed.told(Side::Backend);
    stuffed.sockets.worker.room = 6;
    stuffed.sockets.client.sends = messages("p");
    for mut relay in [half, stuffed] {
        relay.drive();
        assert!(relay.connection.is_torn());
        relay.sockets.worker.room = usize::MAX;
        relay.connection.close(EndReason::Boundary, "db:5432", &relay.drain, relay.now);
        relay.drive();
        assert_eq!((relay.told(Side::Backend), relay.is_ended()), (messages("p")[..6].to_vec(), [true, true]));
    }
}

#[test]
fn a_worker_that_runs_something_is_not_said_goodbye() {
    let mut relay = Relay::seated();
    relay.client("Q");
    assert!(!relay.connection.is_torn());
    relay.connection.close(EndReason::Wall, "db:5432", &relay.drain, relay.now);
    relay.drive();
    assert_eq!((relay.told(Side::Backend), relay.is_ended()), (messages("Q"), [true, true]));
}

#[test]
fn a_client_that_stops_inside_a_workers_message_is_told_nothing_more() {
    let mut relay = Relay::seated();
    relay.client("Q");
    relay.sockets.client.room = 3;
    relay.sockets.worker.sends = messages("D")[..6].to_vec();
    relay.drive();
    relay.sockets.worker.end = Read::Reset;
    relay.sockets.client.room = usize::MAX;
    relay.connection.close(EndReason::Wall, "db:5432", &relay.drain, relay.now);
    assert_eq!(relay.connection.next_timeout(&relay.drain, relay.now), Some(relay.now));
    assert_eq!(relay.drive(), Next::LetGo);
    assert_eq!(relay.told(Side::Frontend), messages("D")[..3]);
}

#[test]
fn who_is_told_to_exit_at_once_tells_nobody() {
    let mut relay = Relay::seated();
    relay.connection.close(EndReason::Quit, "db:5432", &relay.drain, relay.now);
    assert_eq!(relay.drive(), Next::LetGo);
    assert_eq!(relay.told(Side::Frontend), b"");
}

#[test]
fn a_client_that_is_refused_is_told_and_nothing_else() {
    let mut relay = Relay::accepted();
    let fatal = EndReason::ShuttingDown.fatal(None).unwrap();
    relay.connection = Connection::refusal(&fatal, &relay.drain, relay.now);
    relay.pass(1);
    relay.sockets.client.sends = STARTUP.to_vec();
    assert_eq!(relay.drive(), waits(&relay, 5));
    assert_eq!((relay.told(Side::Frontend), relay.is_ended()), (fatal.encode(), [true, false]));
    relay.sockets.client.end = Read::End;
    assert_eq!(relay.drive(), Next::LetGo);
}

/// What a host does.
type Call = fn(&mut Relay);

#[test]
fn a_call_out_of_order_is_noticed_in_a_debug_build() {
    let wrong: [(&str, Call); 4] = [
        ("closed twice", |relay| {
            for _ in 0..2 {
                relay.connection.close(EndReason::Boundary, "db:5432", &relay.drain, relay.now);
            }
        }),
        ("a worker's bytes while others wait", |relay| {
            for _ in 0..2 {
                relay.connection.handle_bytes(Side::Backend, &messages("N"), &relay.drain, relay.now);
            }
        }),
        ("a client's bytes while others are held", |relay| {
            relay.signal();
            relay.pass(15);
            relay.connection.handle_bytes(Side::Frontend, &messages("Q"), &relay.drain, relay.now);
            relay.drain.handle_recall();
            relay.connection.handle_bytes(Side::Frontend, &messages("Q"), &relay.drain, relay.now);
        }),
        ("more taken than there was", |relay| {
            relay.connection.handle_taken(Side::Frontend, 1, &relay.drain, relay.now);
        }),
    ];
    for (what, call) in wrong {
        let mut relay = Relay::seated();
        let noticed = catch_unwind(AssertUnwindSafe(|| call(&mut relay))).is_err();
        assert_eq!(noticed, cfg!(debug_assertions), "{what}");
    }
}

#[test]
fn a_statement_whose_session_an_administrator_ends_is_cancelled_and_its_client_told_by_whom() {
    let mut relay = Relay::seated();
    relay.client("Q");
    assert_eq!(relay.told(Side::Backend), messages("Q"));
    relay.connection.handle_condemned(relay.now);
    assert_eq!(relay.drive(), Next::Cancel);
    assert_eq!(relay.drive(), waits(&relay, 1), "another request follows, should the first one have met nothing");
    let session = relay.connection.session();
    assert_eq!((session.clock(&relay.drain, relay.now), session.was_cut()), (None, false), "it is not the wall");
    relay.client("Q");
    assert_eq!(relay.told(Side::Backend), b"", "nothing new is begun for it");
    relay.worker("E Z:I");
    relay.close(EndReason::Administrator);
    assert_eq!(relay.told(Side::Frontend), [messages("E Z:I"), fatal(EndReason::Administrator, None)].concat());
    assert_eq!(relay.told(Side::Backend), b"X\0\0\0\x04");
}

#[test]
fn a_worker_that_does_not_cancel_is_not_waited_for_when_an_administrator_ends_its_session() {
    let mut relay = Relay::seated();
    relay.client("Q");
    relay.connection.handle_condemned(relay.now);
    relay.pass(60);
    relay.connection.handle_condemned(relay.now);
    assert_eq!(relay.drive(), Next::Cancel, "it is cancelled in any case");
    relay.close(EndReason::Administrator);
    assert_eq!(relay.told(Side::Frontend), fatal(EndReason::Administrator, None));
}

#[test]
fn who_is_not_working_is_ended_at_once_and_who_has_said_nothing_is_told_nothing() {
    for (mut relay, hears) in [(Relay::accepted(), false), (Relay::acquiring(), true), (Relay::seated(), true)] {
        relay.drive();
        relay.connection.handle_condemned(relay.now);
        relay.close(EndReason::Administrator);
        let words = if hears { fatal(EndReason::Administrator, None) } else { vec![] };
        assert_eq!(relay.told(Side::Frontend), words);
    }
}

#[test]
fn an_execute_whose_answer_sits_in_the_workers_buffer_does_not_hold_up_an_administrator() {
    let mut relay = Relay::seated();
    relay.client("P B E");
    relay.told(Side::Backend);
    relay.connection.handle_condemned(relay.now);
    relay.drive();
    assert_eq!(relay.told(Side::Backend), FLUSH);
    relay.worker("1 2 C");
    relay.close(EndReason::Administrator);
}

#[test]
fn whoever_hangs_up_on_a_cancelled_statement_was_ended_by_the_administrator() {
    let mut relay = Relay::seated();
    relay.client("Q X");
    relay.connection.handle_condemned(relay.now);
    assert_eq!(relay.drive(), Next::Cancel);
    relay.worker("E Z:I");
    relay.close(EndReason::Administrator);
}

#[test]
fn a_request_that_comes_when_its_session_is_ended_is_not_begun() {
    let mut relay = Relay::seated();
    relay.told(Side::Backend);
    relay.connection.handle_condemned(relay.now);
    relay.sockets.client.sends = messages("Q");
    relay.close(EndReason::Administrator);
    assert_eq!(relay.told(Side::Backend), b"X\0\0\0\x04");
}

#[test]
fn a_drain_that_is_taken_back_takes_no_administrators_end_back() {
    let mut relay = Relay::seated();
    relay.signal();
    relay.client("Q");
    relay.connection.handle_condemned(relay.now);
    assert_eq!(relay.drive(), Next::Cancel);
    relay.drain.handle_recall();
    relay.connection.handle_recall();
    assert_eq!(relay.drive(), Next::Cancel);
    relay.worker("E Z:I");
    relay.close(EndReason::Administrator);
}
