//! What an idle session costs: the resident memory of the real process with thousands of them, over real sockets.
//!
//! Its worker answers every startup packet and then says nothing; both it and the clients live in this process, so that only
//! what `lastcall` holds is counted. What the kernel keeps for the two sockets of a session is not in the figure.
//!
//! `cargo bench -p cp --bench memory`, or with their number: `… --bench memory -- 5000`. Each takes two descriptors in either
//! process (`ulimit -n`).
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this measures the real machine")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails shows nothing but that")]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// They fit under a limit of 20,000 descriptors.
const SESSIONS: usize = 9_900;

/// How long one session may take to open: what takes longer has run out of something.
const PATIENCE: Duration = Duration::from_secs(10);

/// AuthenticationOk, BackendKeyData, ReadyForQuery.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";

/// Version 3.0, and a user and an application as long as they usually are.
const PARAMETERS: &[u8] = b"\0\x03\0\0user\0app_rw\0database\0orders\0application_name\0orders-api\0\0";

fn main() {
    // `cargo test --benches` only wants to know whether it starts.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let given = std::env::args().find_map(|argument| argument.parse().ok());
    let sessions = given.unwrap_or(if measuring { SESSIONS } else { 10 });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(sessions));
}

async fn measure(sessions: usize) {
    let worker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = worker.local_addr().unwrap();
    tokio::spawn(serve(worker));
    let (process, front) = start(address);
    while TcpStream::connect(front).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(session(front).await);
    let before = resident(&process);
    let mut clients = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let session = tokio::time::timeout(PATIENCE, session(front)).await;
        clients.push(session.expect("a session opens: enough descriptors?"));
    }
    let after = resident(&process);
    println!(
        "{sessions} idle sessions: {} kB resident, {before} kB without them: {} bytes a session",
        after,
        after.saturating_sub(before) * 1024 / sessions
    );
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `lastcall` on a port of its own.
fn start(worker: SocketAddr) -> (Process, SocketAddr) {
    let front = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_lastcall"))
        .args(["serve", "--listen", &front.to_string(), "--worker", &worker.to_string(), "--log", "off"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (Process(process), front)
}

/// The worker.
async fn serve(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut packet = [0; 1024];
            while let Ok(1..) = stream.read(&mut packet).await {
                let _ = stream.write_all(WELCOME).await;
            }
        });
    }
}

/// A session up to its first ReadyForQuery.
async fn session(front: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(front).await.unwrap();
    let length = (PARAMETERS.len() as u32 + 4).to_be_bytes();
    stream.write_all(&[&length[..], PARAMETERS].concat()).await.unwrap();
    let mut welcome = [0; WELCOME.len()];
    stream.read_exact(&mut welcome).await.unwrap();
    stream
}

/// The resident memory of a process, in kB.
fn resident(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
