//! Who may ask what on the admin port.
//!
//! A page in somebody's browser must not be able to ask who is here, or to change anything. To change something takes the header
//! [`ASKED`], which a form can't send, and which a page of another origin may send only after a preflight, that nobody here
//! answers. A page can have its own name looked up as this port's address, and is then of the same origin; but the Host of its
//! requests is that name. So Host is an address or `localhost`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::line;

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

/// Lets through what no page in a browser can have sent, and only whoever knows the token, if there is one. Whoever is refused is
/// told what to send.
pub(super) async fn guard(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    let (headers, path) = (request.headers(), request.uri().path());
    if headers.get(header::HOST).is_some_and(|host| !is_plain_host(host)) {
        let sentence = format!(
            "the Host of a request to {path} is an address or localhost, so that no page in a browser can send it; for another \
             name: curl -H 'Host: localhost'"
        );
        return (StatusCode::FORBIDDEN, line(&sentence)).into_response();
    }
    let (name, value) = ASKED;
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && headers.get(name).is_none_or(|given| given != value) {
        let method = request.method();
        let sentence = format!(
            "this takes the header X-Lastcall, so that no page in a browser can send it: \
             curl -X {method} -H 'X-Lastcall: drain' localhost:PORT{path}"
        );
        return (StatusCode::FORBIDDEN, line(&sentence)).into_response();
    }
    let given = || {
        let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        Token::read(given.strip_prefix(BEARER)?)
    };
    if changes && token.is_some() && given() != token {
        let sentence = "this takes the token that is in the process's admin_token_file: --token-file FILE, or \
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
