//! A worker that does what it is told: it lets everybody in, and then says, and leaves unsaid, what the test wants.

use std::net::Ipv4Addr;

use tokio::net::TcpListener;

use crate::raw::{Raw, message};

/// The key of every session: process id 7, secret 8.
const KEY: [u8; 8] = [0, 0, 0, 7, 0, 0, 0, 8];

/// A listening worker.
#[derive(Debug)]
pub struct FakeWorker(TcpListener);

impl FakeWorker {
    /// Listens on a port of its own.
    ///
    /// # Panics
    /// If there is none.
    pub async fn listen() -> FakeWorker {
        FakeWorker(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("the machine has free ports"))
    }

    /// Where it listens, as a flag has it.
    ///
    /// # Panics
    /// Never: it is bound.
    pub fn address(&self) -> String {
        self.0.local_addr().expect("it is bound").to_string()
    }

    /// The next connection: its startup packet is read, and not answered.
    ///
    /// # Panics
    /// If it ends before.
    pub async fn accept(&self) -> Raw {
        let (stream, _) = self.0.accept().await.expect("it listens");
        let mut raw = Raw::over(stream);
        raw.messages.startup_packet().await.expect("a startup packet");
        raw
    }

    /// The next session, up to its first ReadyForQuery. From here on the test reads what the client says and answers it.
    pub async fn session(&self) -> Raw {
        let mut raw = self.accept().await;
        let hello = [message(b'R', &[0; 4]), message(b'K', &KEY), ready(b'I')].concat();
        raw.send(&hello).await;
        raw
    }
}

/// ReadyForQuery with this transaction status.
pub fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// CommandComplete.
pub fn complete(command: &str) -> Vec<u8> {
    message(b'C', format!("{command}\0").as_bytes())
}

/// ErrorResponse.
pub fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0").as_bytes())
}
