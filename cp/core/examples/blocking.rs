//! The proxy of the example `tokio`, with threads that block, and no async at all:
//! `cargo run -p lastcall-core --example blocking -- 127.0.0.1:6432 127.0.0.1:5432 idle_grace=10s`
//!
//! One thread for each connection. It waits in poll(2) for its two sockets, for the time that the connection names, and for
//! a word from the main thread that the drain has changed. No TLS, no log, no records, no probes; a worker is asked once.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it has no other clock and threads than std's")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Scope, scope, sleep};
use std::time::{Duration, Instant};

use lastcall_core::connection::{CHUNK, ClientSide, Next, Read, Sockets, Written};
use lastcall_core::process::EXIT_QUIT;
use lastcall_core::startup::Packet;
use lastcall_core::wire::{CancelKey, Side};
use lastcall_core::{Connection, EndReason, Process, Settings, Time, Transmit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt::set_socket_send_buffer_size};
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{backend::SignalDelivery, exfiltrator::SignalOnly};

/// How long nobody is accepted when it has failed: for want of file descriptors, most likely.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);
/// How long a worker may take for a cancel request.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);
/// Where the kernel can't say what a client has acknowledged: bytes that can be taken for delivered and are not.
const SEND_BUFFER: usize = 16 * 1024;

struct Proxy {
    started: Instant,
    worker: SocketAddr,
    /// With each connection the other end of its thread's wake-up.
    process: Mutex<Process<UnixStream>>,
    /// Wakes the main thread.
    left: UnixStream,
}

/// Serves until it has drained, and exits.
fn serve(listen: &str, worker: SocketAddr, settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let (told, tells) = UnixStream::pair()?;
    let mut signals = SignalDelivery::with_pipe(told, tells, SignalOnly, [SIGTERM, SIGINT, SIGQUIT])?;
    let (left, leaves) = wake_up()?;
    let process = Mutex::new(Process::new(Arc::new(settings), getrandom::u32()?));
    let proxy = Proxy { started: Instant::now(), worker, process, left: leaves };
    scope(|threads| {
        loop {
            let (now, mut process) = (proxy.now(), proxy.process());
            for signal in signals.pending() {
                match signal {
                    SIGQUIT => std::process::exit(EXIT_QUIT.into()),
                    SIGINT => _ = process.handle_interrupt(now),
                    _ => _ = process.handle_term(now),
                }
                process.members().values().for_each(|member| wake(&member.data));
            }
            match listener.accept() {
                Ok((client, _)) => {
                    // Counted in the same step. One that comes too late has no number, and hears no more of the drain.
                    let entered = wake_up().ok().and_then(|(woken, wakes)| {
                        process.handle_accepted(wakes, now).map(|one| (one.number, one.pace, woken))
                    });
                    let pace = entered.as_ref().map(|one| one.1).unwrap_or_default();
                    let connection = Connection::new(pace, process.drain(), now);
                    let proxy = &proxy;
                    threads.spawn(move || proxy.relay(client, entered.map(|one| (one.0, one.2)), connection));
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => sleep(ACCEPT_AGAIN),
            }
            // Others may not have gone by then: those that came too late.
            process.poll_exit(now).inspect(|code| std::process::exit((*code).into()));
            let at = process.next_timeout().filter(|at| *at > now);
            drop(process);
            let wakes = [PollFd::new(&listener, PollFlags::IN), PollFd::new(&left, PollFlags::IN)];
            wait(wakes.into_iter().chain([PollFd::new(signals.get_read(), PollFlags::IN)]), at, now);
            hush(&left);
        }
    })
}

impl Proxy {
    fn relay(&self, client: TcpStream, entered: Option<(u32, UnixStream)>, mut it: Connection) {
        let number = entered.as_ref().map(|one| one.0);
        let _ = client.set_nonblocking(true).and(client.set_nodelay(true));
        if cfg!(not(target_os = "linux")) {
            let _ = set_socket_send_buffer_size(&client, SEND_BUFFER);
        }
        let (mut sockets, mut connecting) = (Pair { client, worker: None }, None::<TcpStream>);
        // The thread ends when its last cancel request has been served, and the connection is gone then.
        let key = scope(|cancels| {
            loop {
                let (drain, now, mut over) = (self.process().drain().clone(), self.now(), None);
                entered.iter().for_each(|one| hush(&one.1));
                match connecting.take().map(|worker| (worker.take_error(), worker.peer_addr(), worker)) {
                    Some((Ok(None), Ok(_), worker)) => {
                        sockets.worker = Some(worker);
                        it.handle_worker_found(&drain, now);
                    }
                    Some((Ok(None), Err(_), worker)) => connecting = Some(worker),
                    Some(_) => over = Some(EndReason::WorkerUnreachable),
                    None => {}
                }
                match it.drive(&mut sockets, &drain, now) {
                    Next::Opened(Packet::Startup(packet)) => {
                        it.handle_startup(packet, &drain, now);
                        let late = Err(EndReason::ShuttingDown);
                        over = number.map_or(late, |number| self.process().handle_startup(number, now)).err();
                        match self.connect() {
                            Ok(worker) => connecting = Some(worker),
                            Err(_) => over = over.or(Some(EndReason::WorkerUnreachable)),
                        }
                    }
                    Next::Opened(Packet::Cancel(key)) => return Some(key),
                    Next::Opened(_) => over = Some(EndReason::Malformed),
                    Next::Cancel => self.cancel_what_runs(&it, cancels),
                    Next::Close(reason) => over = Some(reason),
                    Next::LetGo => return None,
                    Next::Wait(at) if over.is_none() => {
                        let mut waits: Vec<_> = entered.iter().map(|one| PollFd::new(&one.1, PollFlags::IN)).collect();
                        waits.extend(connecting.iter().map(|worker| PollFd::new(worker, PollFlags::OUT)));
                        for (side, stream) in
                            [(Side::Frontend, Some(&sockets.client)), (Side::Backend, sockets.worker.as_ref())]
                        {
                            let mut wants = PollFlags::empty();
                            wants.set(PollFlags::IN, it.wants(side, &drain, now) > 0);
                            let sends = matches!(it.poll_transmit(side, &drain, now), Some(Transmit::Bytes(_)));
                            wants.set(PollFlags::OUT, sends);
                            // A client that is not read may be reset all the same. A socket that is through is always ready.
                            let watched = side == Side::Frontend && !it.session().is_closed();
                            waits.extend(
                                stream.filter(|_| watched || !wants.is_empty()).map(|it| PollFd::new(it, wants)),
                            );
                        }
                        wait(waits, at, now);
                    }
                    _ => {}
                }
                if let Some(reason) = over {
                    self.cancel_what_runs(&it, cancels);
                    number.inspect(|number| self.process().handle_decided(*number, reason));
                    it.close(reason, &self.worker.to_string(), &drain, now);
                    connecting = None;
                }
            }
        });
        if let Some(key) = key {
            number.inspect(|number| self.process().handle_cancel_request(*number));
            self.cancel(&key);
        }
        drop(sockets);
        number.and_then(|number| self.process().handle_gone(number));
        wake(&self.left);
    }

    /// A connection to the worker that is begun, and writable when it is there.
    fn connect(&self) -> std::io::Result<TcpStream> {
        let family = if self.worker.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let stream = TcpStream::from(socket(family, SocketType::STREAM, None)?);
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        match connect(&stream, &self.worker) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(stream),
            Err(error) => Err(error.into()),
        }
    }

    /// Cancels what the worker still runs.
    fn cancel_what_runs<'a>(&'a self, it: &Connection, cancels: &'a Scope<'a, '_>) {
        if let Some(key) = it.session().worker_key().filter(|_| it.session().worker_runs()).cloned() {
            cancels.spawn(move || self.cancel(&key));
        }
    }

    fn cancel(&self, key: &CancelKey) {
        let Ok(mut worker) = TcpStream::connect_timeout(&self.worker, CANCEL_LIMIT) else { return };
        let _ = worker.write_all(&key.request()).and(worker.set_read_timeout(Some(CANCEL_LIMIT)));
        // It closes when it has signalled the session.
        let _ = worker.read(&mut [0]);
    }

    fn process(&self) -> MutexGuard<'_, Process<UnixStream>> {
        self.process.lock().expect("nothing panics under this lock")
    }

    fn now(&self) -> Time {
        Time::from_epoch(self.started.elapsed())
    }
}

/// The two sockets. None of them blocks, and each read asks the kernel.
struct Pair {
    client: TcpStream,
    worker: Option<TcpStream>,
}

impl Pair {
    fn side(&self, side: Side) -> Option<&TcpStream> {
        if side == Side::Frontend { Some(&self.client) } else { self.worker.as_ref() }
    }
}

impl Sockets for Pair {
    fn write(&mut self, to: Side, bytes: &[u8]) -> Written {
        let Some(mut stream) = self.side(to) else { return Written::Taken(0) };
        match stream.write(bytes) {
            Ok(taken) => Written::Taken(taken),
            Err(error) if is_for_now(&error) => Written::Taken(0),
            Err(_) => Written::Broken,
        }
    }

    fn read(&mut self, from: Side, limit: usize, take: &mut dyn FnMut(&[u8])) -> Read {
        let (Some(mut stream), mut space) = (self.side(from), [0; CHUNK]) else { return Read::Nothing };
        match stream.read(&mut space[..limit]) {
            Ok(0) => Read::End,
            Ok(read) => {
                take(&space[..read]);
                Read::Bytes
            }
            Err(error) if is_for_now(&error) => Read::Nothing,
            Err(_) => Read::Reset,
        }
    }

    fn end(&mut self, side: Side) -> bool {
        self.side(side).map(|stream| stream.shutdown(Shutdown::Write)).is_some()
    }

    /// Its FIN behind bytes that wait is seen when those are read.
    fn client(&mut self) -> Option<ClientSide> {
        self.client.take_error().ok().flatten().map(|_| ClientSide::Gone)
    }

    fn unacknowledged(&mut self) -> usize {
        unacknowledged(&self.client)
    }
}

fn is_for_now(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Bytes written that the peer has not acknowledged: SIOCOUTQ, of Linux's `sockios.h`.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "an ioctl that fills in one integer")]
fn unacknowledged(stream: &TcpStream) -> usize {
    // Safety: SIOCOUTQ writes one C integer to where it is told, on any socket, and reads nothing from there.
    let bytes = unsafe { rustix::ioctl::ioctl(stream, rustix::ioctl::Getter::<0x5411, std::ffi::c_int>::new()) };
    bytes.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
fn unacknowledged(_: &TcpStream) -> usize {
    0
}

/// What is readable from when it is woken, and what wakes it.
fn wake_up() -> std::io::Result<(UnixStream, UnixStream)> {
    let (woken, wakes) = UnixStream::pair()?;
    woken.set_nonblocking(true)?;
    wakes.set_nonblocking(true)?;
    Ok((woken, wakes))
}

fn wake(mut wakes: &UnixStream) {
    // Where there is no more room there are words enough.
    let _ = wakes.write(&[0]);
}

fn hush(mut woken: &UnixStream) {
    let _ = woken.read(&mut [0; 64]);
}

/// Waits until one of these is ready, or until `at`.
fn wait<'a>(fds: impl IntoIterator<Item = PollFd<'a>>, at: Option<Time>, now: Time) {
    let timeout = at.map(|at| Timespec::try_from(at.since(now)).expect("no setting is that long"));
    // Interrupted, or short of memory: then it looks once more than it need.
    let _ = poll(&mut fds.into_iter().collect::<Vec<_>>(), timeout.as_ref());
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, worker, rest @ ..] = arguments.as_slice() else {
        return Err("LISTEN WORKER [SETTING=VALUE]…".into());
    };
    let mut settings = Settings::default();
    for (name, value) in rest.iter().filter_map(|setting| setting.split_once('=')) {
        settings.set(name, value)?;
    }
    settings.check()?;
    serve(listen, worker.to_socket_addrs()?.next().ok_or("the worker has no address")?, settings)
}
