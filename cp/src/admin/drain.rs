//! `/drain`: to drain without a signal, to take that back, and to ask what the drain waits for.
//!
//! | request | answer |
//! |---|---|
//! | `POST /drain` | 202 when the drain has begun, 200 when one was under way |
//! | `DELETE /drain` | 200 when it is taken back or there is none; 409 when a signal has come, or it is too late |
//! | `GET /drain` | who is here and what it waits for, a line a connection; JSON for `Accept: application/json` |
//!
//! A page in somebody's browser must not be able to ask any of this. To change something takes the header [`ASKED`], which a
//! form can't send, and which a page of another origin may send only after a preflight, that nobody here answers. A page can
//! have its own name looked up as this port's address, and is then of the same origin; but the Host of its requests is that
//! name. So Host is an address or `localhost`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::lifecycle::Lifecycle;
use crate::orders::{Answer, Ask, Orders};
use crate::records::Lost;
use crate::registry::Registry;
use crate::status::Status;
use lastcall_world::World;
use lastcall_world::watched::Watched;

/// Connections that an answer names at most: more is no text for people, and a program has counted enough by then.
const MAX_NAMED: usize = 1000;

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Admin<W> {
    pub(crate) world: W,
    pub(crate) registry: Registry,
    pub(crate) lifecycle: Watched<Lifecycle>,
    pub(crate) orders: Orders,
    /// What whoever changes something must know besides; none for nothing.
    pub(crate) token: Option<Token>,
    /// What could not be kept of the log and the records so far.
    pub(crate) lost: Arc<dyn Fn() -> Lost + Send + Sync>,
}

/// What a request that changes something must bring, and its value.
const ASKED: (HeaderName, &str) = (HeaderName::from_static("x-lastcall"), "drain");

/// A secret that whoever changes something brings. Compared in a time that says nothing of how near a guess was.
#[derive(Clone, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// The first line of this text, without blanks around it; none if there is nothing.
    pub fn read(text: &str) -> Option<Token> {
        let token = text.lines().next()?.trim();
        (!token.is_empty()).then(|| Token(token.into()))
    }

    /// As it is sent, in an `Authorization`.
    pub(crate) fn header(&self) -> String {
        format!("{BEARER}{}", self.0)
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        let (one, other) = (self.0.as_bytes(), other.0.as_bytes());
        one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What stands in front of a token.
const BEARER: &str = "Bearer ";

pub(super) fn routes<W: World>(admin: &Admin<W>) -> Router<Admin<W>> {
    let drain = get(status::<W>).post(begin::<W>).delete(recall::<W>);
    let token = admin.token.clone();
    Router::new().route("/drain", drain).layer(middleware::from_fn_with_state(token, guard))
}

/// Lets through what no page in a browser can have sent, and only whoever knows the token, if there is one. Whoever is refused is
/// told what to send.
async fn guard(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.get(header::HOST).is_some_and(|host| !is_plain_host(host)) {
        let sentence = "the Host of a request to /drain is an address or localhost, so that no page in a browser can send it; \
                        for another name: curl -H 'Host: localhost'";
        return (StatusCode::FORBIDDEN, line(sentence)).into_response();
    }
    let (name, value) = ASKED;
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && headers.get(name).is_none_or(|given| given != value) {
        let method = request.method();
        let sentence = format!(
            "this takes the header X-Lastcall, so that no page in a browser can send it: \
             curl -X {method} -H 'X-Lastcall: drain' localhost:PORT/drain"
        );
        return (StatusCode::FORBIDDEN, line(&sentence)).into_response();
    }
    let given = || {
        let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        Token::read(given.strip_prefix(BEARER)?)
    };
    if changes && token.is_some() && given() != token {
        let sentence = "this takes the token that is in the process's admin_token_file: lastcall drain --token-file FILE, or \
                        curl -H \"Authorization: Bearer $TOKEN\"";
        let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
        return (StatusCode::UNAUTHORIZED, challenge, line(sentence)).into_response();
    }
    next.run(request).await
}

/// Whether a Host, its port aside, is an address or `localhost`.
fn is_plain_host(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok()
        || bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

async fn begin<W: World>(State(admin): State<Admin<W>>) -> (StatusCode, String) {
    match admin.orders.give(Ask::Begin).await {
        Answer::Begun => {
            (StatusCode::ACCEPTED, line("draining; DELETE /drain takes that back as long as no signal comes"))
        }
        // The process has what was asked for, whatever brought it about.
        _ => (StatusCode::OK, line("draining already")),
    }
}

async fn recall<W: World>(State(admin): State<Admin<W>>) -> (StatusCode, String) {
    let (status, sentence) = match admin.orders.give(Ask::Recall).await {
        Answer::Recalled => (StatusCode::OK, "serving again".to_owned()),
        Answer::NoDrain => (StatusCode::OK, "there is no drain to take back".to_owned()),
        Answer::Signalled(signal) => {
            (StatusCode::CONFLICT, format!("{signal} has come: the drain can't be taken back any more"))
        }
        Answer::Deaf => {
            let policy = admin.lifecycle.value().drain.settings().drain_policy;
            (StatusCode::CONFLICT, format!("under {policy} the listener is closed already, and can't be opened again"))
        }
        Answer::HandedOver => (
            StatusCode::CONFLICT,
            "the next process has the listening sockets: the drain can't be taken back".to_owned(),
        ),
        Answer::Begun | Answer::UnderWay | Answer::Exiting => {
            (StatusCode::CONFLICT, "the process is exiting: the drain can't be taken back any more".to_owned())
        }
    };
    (status, line(&sentence))
}

async fn status<W: World>(State(admin): State<Admin<W>>, headers: HeaderMap) -> Response {
    let lifecycle = admin.lifecycle.value();
    let status = Status::new(&lifecycle, &admin.registry, admin.world.now(), MAX_NAMED);
    if !wants_json(&headers) {
        return status.to_string().into_response();
    }
    let json = serde_json::to_string(&status).expect("a status has texts and numbers only");
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], line(&json)).into_response()
}

fn wants_json(headers: &HeaderMap) -> bool {
    accepts(headers, "application/json")
}

/// Whether this media type is named as one that is welcome.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|media| media.trim().starts_with(media_type))
}

fn line(sentence: &str) -> String {
    format!("{sentence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_line_and_nothing_shows_it() {
        let token = Token::read(" s3cret \nsecond line\n").unwrap();
        assert_eq!(token, Token::read("s3cret").unwrap());
        for other in ["s3cre", "s3crets", "S3cret"] {
            assert_ne!(token, Token::read(other).unwrap());
        }
        assert_eq!((Token::read(""), Token::read("\n s3cret")), (None, None));
        assert!(!format!("{token:?}").contains("s3"));
    }

    #[test]
    fn a_host_is_an_address_or_localhost_and_no_name_that_somebody_else_can_choose() {
        let is_plain = |host: &str| is_plain_host(&HeaderValue::from_str(host).unwrap());
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "10.0.0.7", "[::1]:8080", "[2001:db8::1]"] {
            assert!(is_plain(host), "{host}");
        }
        for host in
            ["", "pod", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "::1:x", "[::1"]
        {
            assert!(!is_plain(host), "{host}");
        }
    }
}
