//! A pool that owns messages, with transaction pooling: many clients share few workers. One is taken with the first message of
//! a transaction, and given back at its end:
//! `cargo run -p lastcall-core --example messages -- 127.0.0.1:6432 127.0.0.1:5432 idle_grace=10s`
//!
//! Each client has a [`Session`], which hears every message, whoever says it: a client's startup is answered here. Workers are
//! connected for a client's user and database, by trust; its other parameters are dropped, and what a session leaves behind
//! at its server (SET, LISTEN, prepared statements) stays with the worker. A message is kept whole. No TLS, no log, no probes.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is written against tokio, and chooses in a stated order"
)]

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lastcall_core::connection::CHUNK;
use lastcall_core::process::{EXIT_QUIT, Effect};
use lastcall_core::session::FLUSH;
use lastcall_core::startup::{NO_ENCRYPTION, Packet, StartupReader, parameters};
use lastcall_core::wire::{CancelKey, Framer, Side};
use lastcall_core::{Drain, EndReason, Malformed, Process, Session, Settings, Time, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::select;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Workers, in use and not.
const WORKERS: usize = 4;
/// Nobody asks the kernel what a client has acknowledged: so many bytes can be taken for delivered and are not.
const SEND_BUFFER: u32 = 16 * 1024;
/// How long a worker may take for a cancel request.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

struct Pool {
    started: Instant,
    worker: String,
    process: Mutex<Process<Keys>>,
    drain: watch::Sender<Drain>,
    left: Notify,
    /// Whoever has a worker has one of these. First come, first served.
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Worker>>,
}

/// What a client cancels with, and what that is at the worker that it has.
struct Keys {
    secret: u32,
    worker: Option<Arc<CancelKey>>,
}

struct Worker {
    link: Link,
    /// The startup packet that it was connected with.
    login: Vec<u8>,
    /// AuthenticationOk, and its parameters.
    greeting: Vec<u8>,
    key: Arc<CancelKey>,
    place: Option<OwnedSemaphorePermit>,
}

/// A socket, and what waits on both its ways.
struct Link {
    stream: TcpStream,
    framer: Framer,
    /// What was read, and how far the framer has seen it.
    input: Vec<u8>,
    seen: usize,
    out: Vec<u8>,
    ended: bool,
}

/// A client, and the worker that it has.
struct Links {
    client: Link,
    worker: Option<Worker>,
    login: Vec<u8>,
}

/// A client's place in the drain.
struct Seat {
    pool: Arc<Pool>,
    number: Option<u32>,
    session: Session,
    drains: watch::Receiver<Drain>,
    /// The sockets were looked at since the verdict.
    looked: bool,
}

/// Serves until it has drained, and returns the exit code.
async fn serve(pool: Arc<Pool>, listener: TcpListener) -> io::Result<u8> {
    let mut quit = signal(SignalKind::quit())?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        let now = pool.now();
        if let Some(code) = pool.process().poll_exit(now) {
            return Ok(code);
        }
        let at = pool.process().next_timeout().filter(|at| *at > now);
        select! {
            biased;
            _ = quit.recv() => return Ok(EXIT_QUIT),
            _ = term.recv() => pool.told(Process::handle_term),
            _ = int.recv() => pool.told(Process::handle_interrupt),
            Ok((stream, _)) = listener.accept() => pool.clone().enter(stream),
            () = pool.left.notified() => {}
            () = pool.until(at) => {}
        }
    }
}

impl Pool {
    /// A signal came.
    fn told(&self, order: impl FnOnce(&mut Process<Keys>, Time) -> Effect) {
        let mut process = self.process();
        order(&mut process, self.now());
        self.drain.send_replace(process.drain().clone());
    }

    /// A client is accepted, and counted in the same step. One that comes too late has no number.
    fn enter(self: Arc<Self>, stream: TcpStream) {
        let (now, secret) = (self.now(), getrandom::u32().expect("the system has random numbers"));
        let entered = self.process().handle_accepted(Keys { secret, worker: None }, now);
        let (number, pace) = entered.map(|one| (one.number, one.pace)).unzip();
        let session = Session::new(pace.unwrap_or_default(), &self.drain.borrow(), now);
        let seat = Seat { number, session, drains: self.drain.subscribe(), looked: false, pool: self };
        let links = Links { client: Link::new(stream, Side::Frontend), worker: None, login: Vec::new() };
        tokio::spawn(seat.relay(links, key(number.unwrap_or_default(), secret)));
    }

    /// A worker for this login, as soon as there is a place. The error is what the worker says; nothing, if it can't be reached.
    async fn worker(&self, login: &[u8]) -> Result<Worker, Vec<u8>> {
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
    fn give_back(&self, mut worker: Worker) {
        if Arc::strong_count(&worker.key) == 1 && worker.link.out.is_empty() && worker.link.input.is_empty() {
            let _place = worker.place.take();
            self.idle.lock().expect("nothing panics under this lock").push(worker);
        }
    }

    /// What a client with this key runs, by its worker's key.
    fn whom(&self, asked: &CancelKey) -> Option<Arc<CancelKey>> {
        let (process, number) = (self.process(), asked.process_id());
        let keys = &process.members().get(&number)?.data;
        keys.worker.clone().filter(|_| CancelKey::read(&key(number, keys.secret)).is_some_and(|own| own.matches(asked)))
    }

    async fn cancel(self: Arc<Self>, key: Arc<CancelKey>) {
        let request = async {
            let mut worker = TcpStream::connect(&self.worker).await?;
            worker.write_all(&key.request()).await?;
            // It closes when it has signalled the session.
            worker.read(&mut [0]).await
        };
        let _ = timeout(CANCEL_LIMIT, request).await;
    }

    async fn until(&self, at: Option<Time>) {
        match at {
            Some(at) => sleep_until(self.started + at.since(Time::EPOCH)).await,
            None => pending().await,
        }
    }

    fn now(&self) -> Time {
        Time::from_epoch(self.started.elapsed())
    }

    fn process(&self) -> MutexGuard<'_, Process<Keys>> {
        self.process.lock().expect("nothing panics under this lock")
    }
}

impl Seat {
    async fn relay(mut self, mut links: Links, key: [u8; 8]) {
        let (pool, number) = (self.pool.clone(), self.number);
        let Err(reason) = self.serve(&mut links, key).await;
        if let Some(key) = self.worker_key().filter(|_| self.session.worker_runs()) {
            pool.clone().cancel(key).await;
        }
        // In the middle of a transaction a worker is of no use to others.
        let Links { mut client, worker, .. } = links;
        drop(worker);
        let (drain, now) = self.look();
        number.inspect(|number| pool.process().handle_decided(*number, reason));
        self.session.close(reason, &drain, now);
        client.out.extend(self.session.farewell(&pool.worker).iter().flat_map(|fatal| fatal.encode()));
        let limit = drain.farewell_deadline(now).since(now);
        let _ = timeout(limit, client.goodbye(drain.settings().close_linger)).await;
        drop(client);
        number.and_then(|number| pool.process().handle_gone(number));
        pool.left.notify_one();
    }

    /// Serves the client until its session is over.
    async fn serve(&mut self, links: &mut Links, key: [u8; 8]) -> Result<Infallible, EndReason> {
        let packet = match self.unless_over(links.client.open()).await? {
            Ok(Packet::Startup(packet)) => packet,
            Ok(Packet::Cancel(asked)) => {
                self.number.inspect(|number| self.pool.process().handle_cancel_request(*number));
                let runs = self.pool.whom(&asked);
                if let Some(key) = runs {
                    self.pool.clone().cancel(key).await;
                }
                return Err(EndReason::ClientClosed);
            }
            Ok(_) => return Err(EndReason::Malformed),
            Err(_) => return Err(EndReason::ClientClosed),
        };
        links.login = login(&packet).map_err(|_| EndReason::Malformed)?;
        let (drain, now) = self.look();
        self.session.handle_startup(&drain, now);
        let late = Err(EndReason::ShuttingDown);
        self.number.map_or(late, |number| self.pool.process().handle_startup(number, now))?;
        let mut greeting = self.acquire(links).await?;
        greeting.extend([message(b'K', &key), message(b'Z', b"I")].concat());
        self.hear(&greeting, &mut links.client);
        loop {
            while let Some(worker) = &mut links.worker
                && let Some(message) = worker.link.message().map_err(|_| EndReason::WorkerMalformed)?
            {
                self.hear(message, &mut links.client);
                worker.link.pass();
            }
            if !self.session.needs_worker() {
                self.keys(|keys| keys.worker = None);
                links.worker.take().into_iter().for_each(|worker| self.pool.give_back(worker));
            }
            let is_held = self.ask(links).await?;
            let (side, moved) = self.unless_over(links.exchange(is_held)).await?;
            let (drain, now) = self.look();
            match (side, moved, &links.worker) {
                (Side::Frontend, Ok(written), _) => {
                    self.session.handle_output(written, links.client.out.len(), &drain, now);
                }
                (Side::Frontend, Err(_), _) => self.session.handle_client_gone(EndReason::ClientReset),
                (Side::Backend, Ok(_), Some(worker)) if !worker.link.ended => {
                    self.session.handle_input(worker.link.out.len(), &drain, now);
                }
                (Side::Backend, ..) => self.session.handle_worker_gone(),
            }
            if links.client.ended {
                self.session.handle_client_left(now);
                self.session.handle_client_gone(EndReason::ClientClosed);
            }
        }
    }

    /// What the client asks goes to its worker; for the first message of a transaction one is taken. Returns whether some of it
    /// has to wait.
    async fn ask(&mut self, links: &mut Links) -> Result<bool, EndReason> {
        let is_held = loop {
            let kind = match links.client.message() {
                Ok(Some(message)) => message[0],
                Ok(None) => break false,
                Err(malformed) => {
                    self.session.handle_malformed(malformed);
                    break true;
                }
            };
            if links.worker.is_none() && kind != b'X' {
                // Its last answer goes first: nothing moves in the queue.
                if !links.client.out.is_empty() {
                    break true;
                }
                let (drain, now) = self.look();
                self.session.handle_worker_wanted(&drain, now);
                self.acquire(links).await?;
            }
            let ((drain, now), client) = (self.look(), &mut links.client);
            if !self.session.handle_client_message(&client.input[..client.seen], &drain, now) {
                break true;
            }
            let message = client.pass();
            // The worker is not the client's to end.
            if let Some(worker) = links.worker.as_mut().filter(|_| kind != b'X') {
                worker.link.out.extend(message);
            }
        };
        if let Some(worker) = &mut links.worker
            && self.session.take_flush(&self.look().0)
        {
            worker.link.out.extend(FLUSH);
        }
        Ok(is_held)
    }

    /// Waits for a worker. Returns what it greets with.
    async fn acquire(&mut self, links: &mut Links) -> Result<Vec<u8>, EndReason> {
        let pool = self.pool.clone();
        let found = self.unless_over(pool.worker(&links.login)).await?;
        let (drain, now) = self.look();
        match found {
            Ok(found) => {
                self.session.handle_worker_found(&drain, now);
                self.keys(|keys| keys.worker = Some(found.key.clone()));
                Ok(links.worker.insert(found).greeting.clone())
            }
            Err(words) if words.is_empty() => Err(EndReason::WorkerUnreachable),
            Err(words) => {
                self.session.handle_worker_found(&drain, now);
                self.hear(&words, &mut links.client);
                Err(EndReason::LoginFailed)
            }
        }
    }

    /// This is said to the client, by whomever.
    fn hear(&mut self, words: &[u8], client: &mut Link) {
        let (drain, now) = self.look();
        let observed = self.session.handle_worker(words, &drain, now);
        client.out.extend_from_slice(&words[..observed]);
    }

    /// Waits for this, unless the session is over before.
    async fn unless_over<T>(&mut self, work: impl Future<Output = T>) -> Result<T, EndReason> {
        let mut work = pin!(work);
        loop {
            let (drain, now) = self.look();
            match self.session.poll_verdict(&drain, now) {
                Verdict::LookNow => {
                    self.session.handle_look(0, &drain, now);
                    continue;
                }
                // Once more: what has arrived in time counts.
                Verdict::CancelNow | Verdict::CloseNow(_) if !std::mem::replace(&mut self.looked, true) => {}
                Verdict::CancelNow => {
                    self.session.handle_cancelled(&drain, now);
                    self.worker_key().map(|key| tokio::spawn(self.pool.clone().cancel(key)));
                    continue;
                }
                Verdict::CloseNow(reason) => return Err(reason),
                _ => self.looked = false,
            }
            let at = self.session.next_timeout(&drain, now);
            select! {
                biased;
                done = &mut work => return Ok(done),
                _ = self.drains.changed() => {}
                () = self.pool.until(at) => {}
            }
        }
    }

    fn look(&self) -> (Drain, Time) {
        (self.drains.borrow().clone(), self.pool.now())
    }

    fn keys<T>(&self, with: impl FnOnce(&mut Keys) -> T) -> Option<T> {
        self.pool.process().member_mut(self.number?).map(|member| with(&mut member.data))
    }

    fn worker_key(&self) -> Option<Arc<CancelKey>> {
        self.keys(|keys| keys.worker.clone())?
    }
}

impl Links {
    /// Moves something between the two, and says on whose socket, and how many bytes that took. A side is read when what it
    /// said before is on its way, and none of it `is_held`.
    async fn exchange(&mut self, is_held: bool) -> (Side, io::Result<usize>) {
        let has_room = self.client.out.is_empty();
        let reads = !is_held && self.worker.as_ref().is_none_or(|worker| worker.link.out.is_empty());
        let worker = async {
            match &mut self.worker {
                Some(worker) => worker.link.step(has_room).await,
                None => pending().await,
            }
        };
        select! {
            biased;
            moved = worker => (Side::Backend, moved),
            moved = self.client.step(reads) => (Side::Frontend, moved),
        }
    }
}

impl Link {
    fn new(stream: TcpStream, side: Side) -> Link {
        let _ = stream.set_nodelay(true);
        Link { stream, framer: Framer::new(side), input: Vec::new(), seen: 0, out: Vec::new(), ended: false }
    }

    /// Reads the packet that a client opens with.
    async fn open(&mut self) -> io::Result<Packet> {
        let mut opening = StartupReader::default();
        loop {
            let mut bytes = vec![0; opening.wants()];
            let read = self.stream.read(&mut bytes).await?;
            match opening.handle_bytes(&bytes[..read]).map_err(io::Error::other)? {
                Some(Packet::Encryption) => self.stream.write_all(NO_ENCRYPTION).await?,
                Some(packet) => return Ok(packet),
                None if read == 0 => return Err(ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        }
    }

    /// The first whole message of those read.
    fn message(&mut self) -> Result<Option<&[u8]>, Malformed> {
        while (self.seen == 0 || !self.framer.at_boundary()) && self.seen < self.input.len() {
            let step = self.framer.advance(&self.input[self.seen..])?;
            self.seen += step.header + step.body;
        }
        Ok((self.seen > 0 && self.framer.at_boundary()).then(|| &self.input[..self.seen]))
    }

    /// That message is dealt with.
    fn pass(&mut self) -> Vec<u8> {
        self.input.drain(..std::mem::take(&mut self.seen)).collect()
    }

    /// Waits until something can be written or, if it `reads`, read; does that, and returns how many bytes were written.
    async fn step(&mut self, reads: bool) -> io::Result<usize> {
        let interest = match (reads && !self.ended, !self.out.is_empty()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return pending().await,
        };
        self.stream.ready(interest).await?;
        // Nothing waits from here on.
        let written = if self.out.is_empty() { 0 } else { for_now(self.stream.try_write(&self.out))?.unwrap_or(0) };
        self.out.drain(..written);
        if interest.is_readable() {
            let mut space = [0; CHUNK];
            let read = for_now(self.stream.try_read(&mut space))?;
            self.ended = read == Some(0);
            self.input.extend_from_slice(&space[..read.unwrap_or(0)]);
        }
        Ok(written)
    }

    /// The last words, and the end of this side; then the client ends its own.
    async fn goodbye(&mut self, linger: Duration) -> io::Result<()> {
        while !self.out.is_empty() {
            let written = timeout(linger, self.stream.write(&self.out)).await??;
            self.out.drain(..written);
        }
        self.stream.shutdown().await?;
        let mut unread = tokio::io::sink();
        timeout(linger, tokio::io::copy(&mut self.stream, &mut unread)).await?.map(|_| ())
    }
}

/// Nothing, if it would have to wait.
fn for_now(moved: io::Result<usize>) -> io::Result<Option<usize>> {
    match moved {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        moved => moved.map(Some),
    }
}

/// The body of a client's BackendKeyData.
fn key(number: u32, secret: u32) -> [u8; 8] {
    (u64::from(number) << 32 | u64::from(secret)).to_be_bytes()
}

/// The startup packet for a worker of this client's.
fn login(packet: &[u8]) -> Result<Vec<u8>, Malformed> {
    let given = parameters(packet)?;
    let of = |name: &[u8]| given.iter().find(|one| one.0 == name).map(|one| one.1);
    let user = of(b"user").ok_or(Malformed::Startup("it names no user"))?;
    let database = of(b"database").unwrap_or(user);
    let body = [&[0, 3, 0, 0], &b"user\0"[..], user, b"\0database\0", database, b"\0\0"].concat();
    Ok(message(0, &body).split_off(1))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    // A startup packet's length is known to be small, and others are smaller.
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

#[tokio::main]
async fn main() -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, worker, rest @ ..] = arguments.as_slice() else {
        return Err("LISTEN WORKER [SETTING=VALUE]…".into());
    };
    let mut settings = Settings::default();
    for (name, value) in rest.iter().filter_map(|setting| setting.split_once('=')) {
        settings.set(name, value)?;
    }
    settings.check()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(listen.parse()?)?;
    let process = Process::new(Arc::new(settings), getrandom::u32()?);
    let pool = Pool {
        started: Instant::now(),
        worker: worker.clone(),
        drain: watch::Sender::new(process.drain().clone()),
        process: Mutex::new(process),
        left: Notify::new(),
        places: Arc::new(Semaphore::new(WORKERS)),
        idle: Mutex::new(Vec::new()),
    };
    Ok(serve(Arc::new(pool), socket.listen(1024)?).await?.into())
}
