//! A pool that owns messages, with transaction pooling: many clients share few workers. One is taken with the first message of
//! a transaction, and given back at its end:
//! `cargo run -p lastcall-core --example messages -- 127.0.0.1:6432 127.0.0.1:5432 idle_grace=10s`
//!
//! Each client has a [`Session`](lastcall_core::Session), which hears every message, whoever says it: a client's startup is answered here. Workers are
//! connected for a client's user and database, by trust; its other parameters are dropped, and what a session leaves behind
//! at its server (SET, LISTEN, prepared statements) stays with the worker. A message is kept whole. No TLS, no log, no probes.
//!
//! [`pool`] has the workers, [`client`] one client's session, [`link`] a socket and its messages.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is written against tokio, and chooses in a stated order"
)]

mod client;
mod link;
mod pool;

use std::io;
use std::sync::{Arc, Mutex};

use lastcall_core::process::EXIT_QUIT;
use lastcall_core::{Process, Settings};
use tokio::net::{TcpListener, TcpSocket};
use tokio::select;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use pool::Pool;

/// Workers, in use and not.
const WORKERS: usize = 4;
/// Nobody asks the kernel what a client has acknowledged: so many bytes can be taken for delivered and are not.
const SEND_BUFFER: u32 = 16 * 1024;

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
