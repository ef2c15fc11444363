//! The other end of the admin port: what `lastcall status`, `drain` and `end` ask a process that runs.

use std::fmt::{self, Write};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use lastcall_core::settings::print_duration;
use lastcall_world::World;
use serde::{Deserialize, Serialize};

use crate::admin::guard::Token;
use crate::status::{Client, Status};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a drain is begun, taken back and asked about.
const DRAIN: &str = "/drain";

/// The longest answer: some four hundred bytes for each connection that is named.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there, or the connection broke.
    #[error("no answer from {admin}: {source}")]
    Unreachable {
        /// The address that was asked.
        admin: String,
        /// What the system says.
        source: io::Error,
    },
    /// What listens there is no `lastcall`, or one of another version.
    #[error("{admin} answers, but not as lastcall does: {what}")]
    Strange {
        /// The address that was asked.
        admin: String,
        /// What is strange.
        what: String,
    },
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// It has no such session.
    #[error("{0}")]
    NoSession(String),
}

/// Who is there, and where a drain stands: what `GET /drain` answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Seen(Status);

impl Seen {
    /// How many connections are there.
    pub fn connections(&self) -> usize {
        self.0.connections
    }

    /// How the process stands, in one line.
    pub fn headline(&self) -> String {
        let mut line = self.0.phase.to_string();
        if let Some(cause) = &self.0.cause {
            let back = if self.0.signalled { "" } else { ", can be taken back" };
            line.push_str(&format!(", draining for {} by {cause}{back}", millis(self.0.draining_for_ms)));
        }
        format!("{line}, connections: {}", self.0.connections)
    }
}

/// A table: who holds the process longest comes first, and who has no clock holds it for as long as it likes.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        match self.0.gone_in_ms.map(millis) {
            _ if self.0.cause.is_none() => {}
            Some(gone) if self.0.executing => {
                writeln!(f, "gone {gone} after the last worker has executed, at the latest")?
            }
            Some(gone) => writeln!(f, "gone in {gone} at the latest")?,
            None => writeln!(f, "gone when everybody is: this policy has no bound")?,
        }
        let mut holders: Vec<&Client> = self.0.clients.iter().collect();
        if self.0.cause.is_some() {
            holders.sort_by_key(|client| std::cmp::Reverse(client.ends_in_ms.unwrap_or(u64::MAX)));
        }
        let rows = std::iter::once(HEADS.map(str::to_owned)).chain(holders.into_iter().map(row));
        let rows: Vec<[String; COLUMNS]> = rows.collect();
        if rows.len() > 1 {
            let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let widths: [usize; COLUMNS] = std::array::from_fn(width);
            for row in &rows {
                let mut line = String::new();
                for (cell, width) in row.iter().zip(widths) {
                    write!(line, "{cell:width$}  ")?;
                }
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        match self.0.connections.saturating_sub(self.0.clients.len()) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

/// The table's columns.
const COLUMNS: usize = 10;
const HEADS: [&str; COLUMNS] =
    ["SESSION", "APPLICATION", "USER", "DATABASE", "ADDRESS", "BACKEND", "ACTIVITY", "FOR", "CLOCK", "ENDS IN"];

fn row(client: &Client) -> [String; COLUMNS] {
    // What a client chose must not be able to move the cursor of who reads it.
    let text = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), plain);
    [
        client.session.to_string(),
        text(&client.application.clone().filter(|name| !name.is_empty())),
        text(&client.user),
        text(&client.database),
        client.peer.clone(),
        client.worker_pid.map_or("-".to_owned(), |pid| pid.to_string()),
        client.activity.to_string(),
        millis(client.for_ms),
        client.clock.as_deref().map_or("-".to_owned(), plain),
        client.ends_in_ms.map_or("-".to_owned(), millis),
    ]
}

/// What can't move the cursor or turn the line around, as it is; the rest escaped.
fn plain(text: &str) -> String {
    let is_plain = |c: char| matches!(c, '\\' | '"' | '\'') || c.escape_debug().len() == 1;
    let one = |c: char| if is_plain(c) { c.to_string() } else { c.escape_unicode().to_string() };
    text.chars().map(one).collect()
}

/// Whole seconds from a second on: nobody reads more of a table that refreshes.
fn millis(millis: u64) -> String {
    let exact = Duration::from_millis(millis);
    print_duration(if millis < 1000 { exact } else { Duration::from_secs(exact.as_secs()) })
}

/// An admin port, to be asked.
#[derive(Clone, Debug)]
pub struct Control<W> {
    world: W,
    admin: String,
    token: Option<Token>,
}

impl<W: World> Control<W> {
    /// The one at `admin`, `host:port`, where `token` is what whoever changes something must know.
    /// One that listens on all addresses is reached on this machine's own.
    pub fn new(world: W, admin: &str, token: Option<Token>) -> Control<W> {
        let own = admin.strip_prefix("0.0.0.0:").map(|port| format!("127.0.0.1:{port}"));
        let own = own.or_else(|| admin.strip_prefix("[::]:").map(|port| format!("[::1]:{port}")));
        Control { world, admin: own.unwrap_or_else(|| admin.to_owned()), token }
    }

    /// Who is there.
    ///
    /// # Errors
    /// There is no answer, or none of a `lastcall`.
    pub async fn seen(&self) -> Result<Seen, ControlError> {
        let (status, body) = self.ask(Method::GET, DRAIN).await?;
        let json = || serde_json::from_str(&body).map_err(|error| self.strange(error.to_string()));
        if status == StatusCode::OK { json() } else { Err(self.strange(format!("{status} {}", body.trim()))) }
    }

    /// Begins a drain without a signal, or finds one under way. Says which.
    ///
    /// # Errors
    /// There is no answer, or it is no.
    pub async fn drain(&self) -> Result<String, ControlError> {
        self.order(Method::POST, DRAIN).await
    }

    /// Takes that back.
    ///
    /// # Errors
    /// There is no answer, or it is no: a signal has come, or it is too late.
    pub async fn recall(&self) -> Result<String, ControlError> {
        self.order(Method::DELETE, DRAIN).await
    }

    /// Ends one session, or finds that it ends already. Says which.
    ///
    /// # Errors
    /// There is no answer, it is no, or there is no such session.
    pub async fn end(&self, session: u32) -> Result<String, ControlError> {
        self.order(Method::DELETE, &format!("/sessions/{session}")).await
    }

    async fn order(&self, method: Method, path: &str) -> Result<String, ControlError> {
        // Whoever answers anything at all has not been drained.
        self.seen().await?;
        let (status, body) = self.ask(method, path).await?;
        let body = plain(body.trim());
        match status {
            status if status.is_success() => Ok(body),
            StatusCode::CONFLICT | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Err(ControlError::Refused(body)),
            // One that knows nothing of sessions says nothing.
            StatusCode::NOT_FOUND if !body.is_empty() => Err(ControlError::NoSession(body)),
            status => Err(self.strange(format!("{status} {body}"))),
        }
    }

    fn strange(&self, what: String) -> ControlError {
        ControlError::Strange { admin: self.admin.clone(), what: plain(&what) }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, String), ControlError> {
        let unreachable = |source| ControlError::Unreachable { admin: self.admin.clone(), source };
        let mut deadline = pin!(self.world.sleep_until(self.world.now() + PATIENCE));
        let mut answer = pin!(self.exchange(method, path));
        std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Pending => deadline.as_mut().poll(cx).map(|()| Err(unreachable(io::ErrorKind::TimedOut.into()))),
            ready => ready,
        })
        .await
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<(StatusCode, String), ControlError> {
        let unreachable = |source| ControlError::Unreachable { admin: self.admin.clone(), source };
        // Whoever talks, but no HTTP, is somebody else; one that goes away in the middle is gone.
        let broken = |error: hyper::Error| {
            if error.is_parse() { self.strange(error.to_string()) } else { unreachable(io::Error::other(error)) }
        };
        let stream = self.world.connect(&self.admin).await.map_err(unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // The name by which it was reached may be any; the answer is for who is on this machine, or knows the address.
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        let request = request.header(ACCEPT, "application/json").header("X-Lastcall", "drain");
        let request = match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.header()),
            None => request,
        };
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| self.strange(error.to_string()))?;
        let mut connection = pin!(connection);
        let mut answer = pin!(async move {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| unreachable(io::Error::other(error)))?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        });
        let mut ended = false;
        std::future::poll_fn(|cx| {
            // Its end is told to the answer.
            ended = ended || connection.as_mut().poll(cx).is_ready();
            answer.as_mut().poll(cx)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(application: &str, activity: &str, ends_in_ms: Option<u64>) -> Client {
        Client {
            who: application.to_owned(),
            session: 1,
            user: Some("app".to_owned()),
            database: Some("sales".to_owned()),
            application: Some(application.to_owned()),
            peer: "10.0.0.7:40000".to_owned(),
            worker: Some("pg:5432".to_owned()),
            worker_pid: Some(4711),
            activity: activity.to_owned().into(),
            for_ms: 61_900,
            clock: ends_in_ms.map(|_| "idle_grace".into()),
            ends_in_ms,
        }
    }

    #[test]
    fn a_name_is_told_as_it_is_but_for_what_moves_the_cursor() {
        assert_eq!(plain("a\\u{1b} \"b\" l'été"), "a\\u{1b} \"b\" l'été");
        assert_eq!(plain("\u{1b}]0;x\u{7}\u{202e}\n"), "\\u{1b}]0;x\\u{7}\\u{202e}\\u{a}");
    }

    #[test]
    fn who_holds_the_process_longest_comes_first_and_no_name_can_move_the_cursor() {
        let clients = vec![client("\u{1b}[2J", "idle", Some(9_500)), client("etl", "executing", None)];
        let seen = Seen(Status {
            phase: "grace".into(),
            cause: Some("SIGTERM".to_owned()),
            signalled: true,
            draining_for_ms: 20_400,
            executing: true,
            gone_in_ms: Some(305_000),
            connections: 3,
            clients,
        });
        assert_eq!(
            seen.to_string(),
            "grace, draining for 20s by SIGTERM, connections: 3\n\
             gone 5m5s after the last worker has executed, at the latest\n\
             SESSION  APPLICATION  USER  DATABASE  ADDRESS         BACKEND  ACTIVITY   FOR   CLOCK       ENDS IN\n\
             1        etl          app   sales     10.0.0.7:40000  4711     executing  1m1s  -           -\n\
             1        \\u{1b}[2J    app   sales     10.0.0.7:40000  4711     idle       1m1s  idle_grace  9s\n\
             and 1 more\n"
        );
    }
}
