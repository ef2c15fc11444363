//! A simulated PostgreSQL worker: speaks the protocol exactly, and works by letting simulated time pass.
//!
//! It does with messages what PostgreSQL does with them: both query protocols, implicit transactions, the skip to Sync
//! after an error, output held back until somebody asks or an error is sent, cancel requests over a connection of their
//! own, COPY in both directions, cursors. What it executes is the few statements of [`super::statement`].
//!
//! As in PostgreSQL, who works reads no FIN: a running statement is finished and its answer written, and then the end of the
//! stream ends the session, with its transaction. A statement whose connection is reset keeps its worker busy to its next
//! write or to a cancel request; that it is cut is logged at the moment in which it happened.
//!
//! Where it departs from PostgreSQL: at that write everything is rolled back, also an INSERT that had nothing to write
//! before its commit. A malformed body ends the session, where PostgreSQL answers with an ERROR. Every 3.x protocol is spoken
//! as 3.0, but for the longer secrets of 3.2. A password is asked for only if the startup packet says so ([`PASSWORD`]), and any is right. A FunctionCall
//! runs the statement in its first argument. There are no parameters, savepoints and TLS.

mod orders;
mod prepared;
mod request;
mod session;
#[cfg(test)]
mod tests;
mod transaction;
mod trouble;
mod wire;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use lastcall_world::watched::Watched;
use lastcall_world::{Listener, World};

pub use self::orders::Farewell;
use self::orders::{Burst, Orders, Told};
use self::session::{Session, Take};
use self::wire::{NoMessage, Wire};
use super::frame::{Fields, Malformed};
use crate::cast::history::{Login, Recorder};

/// The worker's name as a host.
pub const NAME: &str = "worker";
/// Where a worker listens. Where there are several pods, each has a port of its own from the next one on, so that it is known
/// whose session one is.
pub const PORT: u16 = 5432;

/// Where this pod's connections to the worker go: of the only pod, or of one of several.
pub fn address(host: &str, pod: Option<u32>) -> String {
    let port = u32::from(PORT) + pod.unwrap_or_default();
    format!("{host}:{port}")
}

/// A startup parameter of these hosts' own, named like a custom setting of PostgreSQL: `on` makes the worker ask this
/// session for a password.
pub(crate) const PASSWORD: &str = "last_call.password";

/// Most sessions at the same time: twice what the control plane admits by default, which must never be what limits a
/// run.
const MAX_SESSIONS: usize = 20_000;

/// Wait after a failed accept, so that a listener that keeps failing can't stop simulated time.
const ACCEPT_RETRY: Duration = Duration::from_millis(1);

/// What of a worker outlives its process: its sessions' numbers, and whether it takes any. Clones share it.
#[derive(Clone, Debug)]
pub struct Worker {
    sessions: Sessions,
    refuses: Watched<bool>,
}

impl Default for Worker {
    fn default() -> Self {
        Worker { sessions: Sessions::default(), refuses: Watched::new(false) }
    }
}

impl Worker {
    /// Tells the sessions of a client, or all, to end, as an administrator does.
    pub fn terminate(&self, client: Option<&str>, farewell: Farewell) {
        self.sessions.tell(client, |told| told.end = Some(farewell));
    }

    /// Notifies the sessions of a client that listen.
    pub fn notify(&self, client: &str, count: u32, bytes: u32) {
        self.sessions.tell(Some(client), |told| told.bursts.push(Burst { count, bytes }));
    }

    /// PostgreSQL's smart shutdown, as far as clients see it: sessions go on, new ones are refused. Or the end of it.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.change(refuses);
    }
}

/// Serves sessions for ever.
///
/// # Panics
/// If it can't listen on its port: its host would not be its own.
pub async fn run<W: World>(world: W, recorder: Recorder, worker: Worker) {
    serve_pod(world, None, recorder, worker).await;
}

/// Serves the sessions of several pods for ever. Each pod's are told in a log of its own; a cancel request of any finds all.
///
/// # Panics
/// If it can't listen on its ports.
pub async fn run_for_pods<W: World>(world: W, pods: Vec<(u32, Recorder)>, worker: Worker) {
    for (pod, recorder) in pods {
        world.spawn("worker-port", serve_pod(world.clone(), Some(pod), recorder, worker.clone()));
    }
    std::future::pending().await
}

async fn serve_pod<W: World>(world: W, pod: Option<u32>, recorder: Recorder, worker: Worker) {
    let listening = world.bind(&address("0.0.0.0", pod)).await;
    let mut listener = listening.expect("a worker has its host's ports to itself");
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, _)) => {
                let connection = serve(world.clone(), recorder.clone(), worker.clone(), stream);
                world.spawn("worker-session", connection);
            }
            Err(_) => world.sleep_until(world.now() + ACCEPT_RETRY).await,
        }
    }
}

/// Serves one connection to its end: a session, or a cancel request.
async fn serve<W: World>(world: W, recorder: Recorder, worker: Worker, stream: W::Stream) {
    let Worker { sessions, refuses } = worker;
    let mut wire = Wire::new(stream);
    match greet(&mut wire).await {
        Ok(Hello::Session { .. }) if refuses.value() => {
            wire.put_error("FATAL", "57P03", "the database system is shutting down");
            wire.finish().await;
        }
        Ok(Hello::Session { application, login, password, long_secret }) => {
            let secret = secret(&world, long_secret);
            let Some(entry) = sessions.enter(secret.clone(), application.clone()) else {
                wire.put_error("FATAL", "53300", "sorry, too many clients already");
                return wire.finish().await;
            };
            let (number, pid, orders) = (entry.number, pid(entry.number), entry.orders());
            let take = Take { number, pid, secret, application, login, password, orders };
            Session::new(world, recorder, wire, take).run().await;
        }
        Ok(Hello::Cancel { pid, secret }) => sessions.cancel(pid, &secret),
        Err(NoMessage::Closed) => {}
        Err(NoMessage::Malformed(malformed)) => {
            wire.put_error("FATAL", "08P01", malformed.0);
            wire.finish().await;
        }
    }
}

/// The process id of the session with this number, counted from 1 and far below the sign bit: like an operating system's,
/// it is not where one starts to count, and there are others in between.
fn pid(number: u32) -> i32 {
    const FIRST: i32 = 4_711;
    const STEP: i32 = 3;
    FIRST + STEP * number as i32
}

/// The secret of a cancel key: four bytes, or in protocol 3.2 as many as PostgreSQL 18 gives.
fn secret<W: World>(world: &W, long: bool) -> Bytes {
    /// Words of a random secret of 32 bytes.
    const LONG_WORDS: usize = 4;
    let word = || world.random("worker-key").to_be_bytes();
    if long { (0..LONG_WORDS).flat_map(|_| word()).collect() } else { Bytes::copy_from_slice(&word()[4..]) }
}

/// What a connection is for.
enum Hello {
    Session { application: String, login: Login, password: bool, long_secret: bool },
    Cancel { pid: i32, secret: Bytes },
}

/// Reads startup packets; answers requests for encryption with a no.
async fn greet<S>(wire: &mut Wire<S>) -> Result<Hello, NoMessage>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    /// A client asks once for TLS and once for GSSAPI.
    const MAX_ENCRYPTION_REQUESTS: usize = 2;

    for _ in 0..=MAX_ENCRYPTION_REQUESTS {
        let packet = wire.startup().await?;
        match read_hello(packet).map_err(NoMessage::Malformed)? {
            Some(hello) => return Ok(hello),
            None => {
                wire.put_raw(b"N");
                wire.flush().await.map_err(|_| NoMessage::Closed)?;
            }
        }
    }
    Err(NoMessage::Malformed(Malformed("asks for encryption again and again")))
}

/// What a startup packet asks for; none for encryption.
fn read_hello(packet: Bytes) -> Result<Option<Hello>, Malformed> {
    const CANCEL_REQUEST: i32 = 80_877_102;
    const SSL_REQUEST: i32 = 80_877_103;
    const GSSENC_REQUEST: i32 = 80_877_104;
    const PROTOCOL_3: i32 = 3;
    /// The minor version from which on secrets are longer than four bytes.
    const LONG_SECRETS: i32 = 2;

    let mut fields = Fields::of(packet);
    match fields.i32()? {
        SSL_REQUEST | GSSENC_REQUEST => Ok(None),
        CANCEL_REQUEST => {
            let pid = fields.i32()?;
            Ok(Some(Hello::Cancel { pid, secret: fields.rest() }))
        }
        version if version >> 16 == PROTOCOL_3 => {
            let (mut application, mut login, mut password) = (String::new(), Login::default(), false);
            let long_secret = version & 0xffff >= LONG_SECRETS;
            loop {
                let name = fields.string()?;
                if name.is_empty() {
                    return Ok(Some(Hello::Session { application, login, password, long_secret }));
                }
                let value = fields.string()?;
                match name.as_str() {
                    "application_name" => application = value,
                    "user" => login.user = value,
                    "database" => login.database = value,
                    PASSWORD => password = value == "on",
                    _ => {}
                }
            }
        }
        _ => Err(Malformed("unsupported frontend protocol")),
    }
}

/// The running sessions, where cancel requests find them. Clones share one table.
#[derive(Clone, Debug, Default)]
struct Sessions(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    last: u32,
    /// By process id.
    running: BTreeMap<i32, Running>,
}

#[derive(Debug)]
struct Running {
    secret: Bytes,
    application: String,
    told: Watched<Told>,
}

impl Sessions {
    /// Numbers a new session; none if there are too many.
    fn enter(&self, secret: Bytes, application: String) -> Option<Entry> {
        let mut table = self.lock();
        if table.running.len() >= MAX_SESSIONS {
            return None;
        }
        table.last += 1;
        let (number, told) = (table.last, Watched::new(Told::default()));
        table.running.insert(pid(number), Running { secret, application, told: told.clone() });
        Some(Entry { sessions: self.clone(), number, told })
    }

    /// Tells the session that it is cancelled, if the secret is its own. As in PostgreSQL, nobody is told whether it
    /// was.
    fn cancel(&self, pid: i32, secret: &Bytes) {
        let told = match self.lock().running.get(&pid) {
            Some(running) if running.secret == *secret => running.told.clone(),
            _ => return,
        };
        tell(&told, |told| told.cancels += 1);
    }

    /// Tells the sessions of a client something, or all.
    fn tell(&self, client: Option<&str>, what: impl Fn(&mut Told)) {
        let is_meant = |running: &&Running| {
            let name = running.application.rsplit_once('.').map(|(name, _copy)| name);
            client.is_none() || name == client
        };
        let all: Vec<Watched<Told>> =
            self.lock().running.values().filter(is_meant).map(|running| running.told.clone()).collect();
        for told in all {
            tell(&told, &what);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nothing panics while it holds the table")
    }
}

fn tell(told: &Watched<Told>, what: impl Fn(&mut Told)) {
    let mut value = told.value();
    what(&mut value);
    told.change(value);
}

/// A session's place in the table; dropping it gives the place back.
struct Entry {
    sessions: Sessions,
    number: u32,
    told: Watched<Told>,
}

impl Entry {
    fn orders(&self) -> Orders {
        Orders::new(self.told.subscribe())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.lock().running.remove(&pid(self.number));
    }
}
