//! The workers, and who has them.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lastcall_core::process::Effect;
use lastcall_core::startup::parameters;
use lastcall_core::wire::{CancelKey, Side};
use lastcall_core::{Drain, Malformed, Process, Session, Time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::{Links, Seat};
use crate::link::Link;

/// How long a worker may take for a cancel request.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

pub(crate) struct Pool {
    pub(crate) started: Instant,
    pub(crate) worker: String,
    pub(crate) process: Mutex<Process<Keys>>,
    pub(crate) drain: watch::Sender<Drain>,
    pub(crate) left: Notify,
    /// Whoever has a worker has one of these. First come, first served.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) idle: Mutex<Vec<Worker>>,
}

/// What a client cancels with, and what that is at the worker that it has.
pub(crate) struct Keys {
    pub(crate) secret: u32,
    pub(crate) worker: Option<Arc<CancelKey>>,
}

pub(crate) struct Worker {
    pub(crate) link: Link,
    /// The startup packet that it was connected with.
    pub(crate) login: Vec<u8>,
    /// AuthenticationOk, and its parameters.
    pub(crate) greeting: Vec<u8>,
    pub(crate) key: Arc<CancelKey>,
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

impl Pool {
    /// A signal came.
    pub(crate) fn told(&self, order: impl FnOnce(&mut Process<Keys>, Time) -> Effect) {
        let mut process = self.process();
        order(&mut process, self.now());
        self.drain.send_replace(process.drain().clone());
    }

    /// A client is accepted, and counted in the same step. One that comes too late has no number.
    pub(crate) fn enter(self: Arc<Self>, stream: TcpStream) {
        let (now, secret) = (self.now(), getrandom::u32().expect("the system has random numbers"));
        let entered = self.process().handle_accepted(Keys { secret, worker: None }, now);
        let (number, pace) = entered.map(|one| (one.number, one.pace)).unzip();
        let session = Session::new(pace.unwrap_or_default(), &self.drain.borrow(), now);
        let seat = Seat { number, session, drains: self.drain.subscribe(), looked: false, pool: self };
        let links = Links { client: Link::new(stream, Side::Frontend), worker: None, login: Vec::new() };
        tokio::spawn(seat.relay(links, key(number.unwrap_or_default(), secret)));
    }

    /// A worker for this login, as soon as there is a place. The error is what the worker says; nothing, if it can't be reached.
    pub(crate) async fn worker(&self, login: &[u8]) -> Result<Worker, Vec<u8>> {
        let place = self.places.clone().acquire_owned().await.expect("nobody closes it");
        let take = || {
            let mut idle = self.idle.lock().expect("nothing panics under this lock");
            // Those of others must leave room for a new one.
            let found = idle.iter().position(|worker| worker.login == login).map(|at| idle.swap_remove(at));
            found.or_else(|| {
                idle.truncate(self.places.available_permits());
                None
            })
        };
        while let Some(mut worker) = take() {
            // One that is dead by now, or has something to say, is no use.
            if worker.link.stream.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                worker.place = Some(place);
                return Ok(worker);
            }
        }
        self.connect(login, place).await.unwrap_or_else(|_| Err(Vec::new()))
    }

    async fn connect(&self, login: &[u8], place: OwnedSemaphorePermit) -> io::Result<Result<Worker, Vec<u8>>> {
        let mut link = Link::new(TcpStream::connect(&self.worker).await?, Side::Backend);
        let (mut greeting, mut key) = (Vec::new(), None);
        link.out.extend_from_slice(login);
        loop {
            while let Some(message) = link.message().map_err(io::Error::other)?.map(<[u8]>::to_vec) {
                link.pass();
                match (message[0], &message[5..]) {
                    (b'R', [0, 0, 0, 0]) | (b'S', _) => greeting.extend(message),
                    (b'K', body) => key = CancelKey::read(body).map(Arc::new),
                    (b'N', _) => {}
                    (b'Z', _) => {
                        let key = key.ok_or(ErrorKind::InvalidData)?;
                        let (login, place) = (login.to_vec(), Some(place));
                        return Ok(Ok(Worker { link, login, greeting, key, place }));
                    }
                    (b'E', _) => return Ok(Err(message)),
                    // It wants a password.
                    _ => return Err(ErrorKind::PermissionDenied.into()),
                }
            }
            link.step(true).await?;
            if link.ended {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Its transaction is over: whoever waits for a worker may have it. A cancel request that is under way would hit that one.
    pub(crate) fn give_back(&self, mut worker: Worker) {
        if Arc::strong_count(&worker.key) == 1 && worker.link.out.is_empty() && worker.link.input.is_empty() {
            let _place = worker.place.take();
            self.idle.lock().expect("nothing panics under this lock").push(worker);
        }
    }

    /// What a client with this key runs, by its worker's key.
    pub(crate) fn whom(&self, asked: &CancelKey) -> Option<Arc<CancelKey>> {
        let (process, number) = (self.process(), asked.process_id());
        let keys = &process.members().get(&number)?.data;
        keys.worker.clone().filter(|_| CancelKey::read(&key(number, keys.secret)).is_some_and(|own| own.matches(asked)))
    }

    pub(crate) async fn cancel(self: Arc<Self>, key: Arc<CancelKey>) {
        let request = async {
            let mut worker = TcpStream::connect(&self.worker).await?;
            worker.write_all(&key.request()).await?;
            // It closes when it has signalled the session.
            worker.read(&mut [0]).await
        };
        let _ = timeout(CANCEL_LIMIT, request).await;
    }

    pub(crate) async fn until(&self, at: Option<Time>) {
        match at {
            Some(at) => sleep_until(self.started + at.since(Time::EPOCH)).await,
            None => pending().await,
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_epoch(self.started.elapsed())
    }

    pub(crate) fn process(&self) -> MutexGuard<'_, Process<Keys>> {
        self.process.lock().expect("nothing panics under this lock")
    }
}

/// The body of a client's BackendKeyData.
fn key(number: u32, secret: u32) -> [u8; 8] {
    (u64::from(number) << 32 | u64::from(secret)).to_be_bytes()
}

/// The startup packet for a worker of this client's.
pub(crate) fn login(packet: &[u8]) -> Result<Vec<u8>, Malformed> {
    let given = parameters(packet)?;
    let of = |name: &[u8]| given.iter().find(|one| one.0 == name).map(|one| one.1);
    let user = of(b"user").ok_or(Malformed::Startup("it names no user"))?;
    let database = of(b"database").unwrap_or(user);
    let body = [&[0, 3, 0, 0], &b"user\0"[..], user, b"\0database\0", database, b"\0\0"].concat();
    Ok(message(0, &body).split_off(1))
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    // A startup packet's length is known to be small, and others are smaller.
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}
