//! A connection between a client and a worker that do what a test says, over sockets in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::connection::Shared;
use crate::in_memory::{InMemory, Socket, pair};
use crate::lifecycle::Lifecycle;
use crate::pending::Pending;
use crate::registry::{NotEnded, Registry};
use crate::workers::Workers;
use lastcall_core::wire::CancelKey;
use lastcall_core::{Drain, Settings};
use lastcall_world::tasks::Tasks;
use lastcall_world::watched::Watched;

/// The worker's answer to a login: its key (process id 7), and that it is ready.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x09Z\0\0\0\x05I";
const STARTUP: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0app\0\0";
const QUERY: &[u8] = b"Q\0\0\0\x06x\0";
const EXECUTE: &[u8] = b"E\0\0\0\x09\0\0\0\0\0";
const FLUSH: &[u8] = b"H\0\0\0\x04";
const ANSWER: &[u8] = b"C\0\0\0\x05\0Z\0\0\0\x05I";
const CANCELLED: &[u8] = b"E\0\0\0\x0fSERROR\0C5\0\0Z\0\0\0\x05I";
const FATAL: &[u8] = b"E\0\0\0\x13SFATAL\0VFATAL\0\0";

/// The reasons of the end records, in their order.
#[derive(Clone, Default)]
struct Records(Arc<Mutex<Vec<EndReason>>>);

impl Meter for Records {
    fn session_ended(&self, record: &EndRecord) {
        self.0.lock().unwrap().push(record.reason);
    }

    async fn flush(&self) {}
}

/// A session with both its ends in a test's hands.
struct Table {
    world: InMemory,
    front: Front<InMemory, Records>,
    client: Socket,
    worker: Socket,
}

impl Table {
    /// After the first ReadyForQuery.
    fn laid() -> Table {
        let world = InMemory::default();
        let settings = Arc::new(Settings::default());
        let front = Arc::new(Shared {
            world: world.clone(),
            meter: Records::default(),
            workers: Arc::new(Workers::new(vec!["worker:5432".to_owned()], Vec::new())),
            tls: Arc::default(),
            registry: Registry::new(settings.clone(), 0),
            lifecycle: Watched::new(Lifecycle::serving(Drain::new(settings.clone()))),
            tasks: Tasks::default(),
            throttle: Default::default(),
            late: Tasks::default(),
            pending: Pending::with_limit(8),
            cancels: Default::default(),
        });
        let (here, client) = pair();
        let slot = front.registry.enter(([127, 0, 0, 1], 1).into(), world.now()).expect("nobody has closed it");
        world.spawn("session", serve(front.clone(), here, slot, front.pending.enter()));
        client.say(STARTUP);
        world.run();
        let worker = world.worker().expect("it looks for a worker");
        assert_eq!(worker.hear(), STARTUP);
        worker.say(WELCOME);
        world.run();
        assert_eq!(client.hear(), WELCOME);
        Table { world, front, client, worker }
    }

    /// The signal comes, and everybody is due.
    fn due() -> Table {
        let table = Table::laid();
        table.signal();
        table
    }

    fn signal(&self) {
        let mut lifecycle = self.front.lifecycle.value();
        self.front.registry.order(|process| process.handle_term(self.world.now()));
        lifecycle.drain = self.front.registry.drain();
        self.front.lifecycle.change(lifecycle);
        self.world.run();
    }

    fn asks(&self, bytes: &[u8]) {
        self.client.say(bytes);
        self.world.run();
    }

    fn answers(&self, bytes: &[u8]) {
        self.worker.say(bytes);
        self.world.run();
    }

    fn pass(&self, seconds: u64) {
        self.world.pass(Duration::from_secs(seconds));
    }

    fn is_gone(&self) -> bool {
        self.front.registry.connections() == 0
    }

    fn recorded(&self) -> Vec<EndReason> {
        self.front.meter.0.lock().unwrap().clone()
    }

    /// The cancel request that has arrived at the worker, answered as PostgreSQL does: by closing.
    fn is_cancelled(&self) -> bool {
        let Some(request) = self.world.worker() else { return false };
        let key = CancelKey::read(&[0, 0, 0, 7, 0, 0, 0, 9]).expect("eight bytes are a key");
        request.hear() == key.request()
    }
}

#[test]
fn a_session_that_is_due_stays_until_the_clients_machine_has_its_answer_and_its_fatal() {
    let table = Table::laid();
    table.asks(QUERY);
    table.client.take(usize::MAX, Some(WELCOME.len() as u64));
    table.answers(ANSWER);
    table.signal();
    table.pass(100);
    assert_eq!(table.client.hear(), ANSWER, "and no FATAL behind it");
    let acknowledged = (WELCOME.len() + ANSWER.len()) as u64;
    table.client.take(usize::MAX, Some(acknowledged));
    table.pass(1);
    assert_eq!(table.client.hear().first(), Some(&b'E'));
    assert!(table.client.has_heard_the_end() && !table.is_gone(), "nobody has acknowledged the FATAL");
    table.client.end();
    table.pass(1);
    assert!(!table.is_gone());
    table.client.take(usize::MAX, None);
    table.pass(1);
    assert!(table.is_gone());
}

#[test]
fn a_reset_is_noticed_while_a_request_is_held() {
    let table = Table::laid();
    table.asks(QUERY);
    table.signal();
    table.pass(31);
    table.asks(QUERY);
    assert_eq!(table.worker.hear(), QUERY, "the second one is held");
    table.client.reset();
    table.world.run();
    assert!(table.is_cancelled());
    table.worker.end();
    table.pass(1);
    assert!(table.is_gone());
    assert_eq!(table.recorded(), [EndReason::ClientReset]);
}

#[test]
fn a_client_that_dies_in_an_unfinished_batch_takes_its_workers_session_with_it() {
    let table = Table::laid();
    table.asks(EXECUTE);
    table.client.end();
    table.world.run();
    assert_eq!(table.worker.hear(), [EXECUTE, FLUSH].concat());
    assert!(table.worker.has_heard_the_end(), "as it would without us");
    table.worker.end();
    table.world.run();
    assert!(table.is_gone());
}

#[test]
fn a_statement_of_a_client_that_has_left_is_cancelled_when_it_has_had_its_grace() {
    let table = Table::laid();
    table.asks(QUERY);
    table.client.end();
    table.pass(3600);
    assert!(!table.is_gone() && !table.is_cancelled(), "serving: it runs on, as with PostgreSQL");
    table.signal();
    table.pass(290);
    assert!(!table.is_cancelled());
    table.pass(12);
    assert!(table.is_cancelled());
    table.answers(CANCELLED);
    table.pass(1);
    assert!(table.client.hear().starts_with(b"E"));
    assert!(table.is_gone());
}

#[test]
fn the_workers_own_fatal_is_delivered_like_ours_and_is_the_only_one() {
    let table = Table::laid();
    table.client.take(usize::MAX, Some(WELCOME.len() as u64));
    table.answers(FATAL);
    assert_eq!(table.client.hear(), FATAL);
    assert!(table.client.has_heard_the_end());
    table.client.end();
    table.pass(1);
    assert!(!table.is_gone(), "it is not acknowledged");
    table.client.take(usize::MAX, None);
    table.pass(1);
    assert!(table.is_gone());
}

#[test]
fn the_last_word_comes_behind_what_the_client_has_not_taken() {
    let table = Table::laid();
    table.asks(QUERY);
    table.client.take(3, None);
    table.answers(ANSWER);
    table.signal();
    // It stalls, and reads on within its linger.
    table.pass(1);
    table.pass(301);
    assert_eq!(table.recorded(), [EndReason::StallGrace]);
    let before = table.client.hear();
    table.client.take(usize::MAX, None);
    table.pass(1);
    let heard = [before, table.client.hear()].concat();
    assert!(heard.starts_with(ANSWER) && heard[ANSWER.len()..].starts_with(b"E"), "{heard:?}");
}

#[test]
fn a_client_that_acknowledges_nothing_of_its_last_words_is_waited_for_no_longer_than_the_linger() {
    let table = Table::laid();
    table.client.take(0, Some(WELCOME.len() as u64));
    table.signal();
    // It is due after 24.3 s.
    table.pass(28);
    assert!(!table.is_gone());
    table.pass(2);
    assert!(table.is_gone());
}

#[test]
fn an_idle_session_that_is_due_is_told_and_gone() {
    let table = Table::due();
    table.pass(31);
    assert_eq!(table.client.hear().first(), Some(&b'E'));
    table.client.end();
    table.world.run();
    assert!(table.is_gone());
    assert_eq!(table.world.tasks(), 0);
}

#[test]
fn who_is_idle_hears_at_once_that_an_administrator_ends_it_and_is_ended_once() {
    let table = Table::laid();
    assert_eq!(table.front.registry.end(1), Ok(()));
    table.world.run();
    assert!(table.client.hear().starts_with(b"E"));
    assert_eq!(table.front.registry.end(1), Err(NotEnded::Ending), "its client has not said goodbye");
    table.client.end();
    table.world.run();
    assert_eq!(table.front.registry.end(1), Err(NotEnded::NotHere));
    assert_eq!((table.recorded(), table.world.tasks()), (vec![EndReason::Administrator], 0));
}

#[test]
fn whom_the_drain_ends_no_administrator_ends() {
    let table = Table::due();
    // It is due after 24.3 s, and has 5 s to say goodbye.
    table.pass(26);
    assert_eq!(table.front.registry.end(1), Err(NotEnded::Ending));
    table.pass(5);
    assert_eq!(table.recorded(), [EndReason::Boundary]);
}

#[test]
fn a_statement_of_a_session_that_an_administrator_ends_is_cancelled_at_its_worker() {
    let table = Table::laid();
    table.asks(QUERY);
    table.front.registry.end(1).unwrap();
    table.world.run();
    assert!(table.is_cancelled());
    assert!(table.client.hear().is_empty(), "its answer comes first");
    table.answers(CANCELLED);
    table.client.end();
    table.world.run();
    assert!(table.client.hear().starts_with(CANCELLED));
    assert!(table.is_gone());
    let totals = table.front.registry.totals();
    assert_eq!((table.recorded(), totals.cut), (vec![EndReason::Administrator], 0), "it is not the wall's doing");
}
