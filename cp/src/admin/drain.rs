//! `/drain`: to drain without a signal, to take that back, and to ask what the drain waits for.
//!
//! | request | answer |
//! |---|---|
//! | `POST /drain` | 202 when the drain has begun, 200 when one was under way |
//! | `DELETE /drain` | 200 when it is taken back or there is none; 409 when a signal has come, or it is too late |
//! | `GET /drain` | what it waits for, a line a connection; JSON for `Accept: application/json` |

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::lifecycle::Lifecycle;
use crate::notice::Notice;
use crate::orders::{Answer, Ask, Orders};
use crate::registry::Registry;
use crate::status::Status;
use crate::world::World;

/// Connections that an answer names at most: more is no text for people, and a program has counted enough by then.
const MAX_NAMED: usize = 1000;

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Desk<W> {
    pub(crate) world: W,
    pub(crate) registry: Registry,
    pub(crate) lifecycle: Notice<Lifecycle>,
    pub(crate) orders: Orders,
}

pub(super) fn routes<W: World>() -> Router<Desk<W>> {
    Router::new().route("/drain", get(status::<W>).post(begin::<W>).delete(recall::<W>))
}

async fn begin<W: World>(State(desk): State<Desk<W>>) -> (StatusCode, String) {
    match desk.orders.give(Ask::Begin).await {
        Answer::Begun => {
            (StatusCode::ACCEPTED, line("draining; DELETE /drain takes that back as long as no signal comes"))
        }
        // The process has what was asked for, whatever brought it about.
        _ => (StatusCode::OK, line("draining already")),
    }
}

async fn recall<W: World>(State(desk): State<Desk<W>>) -> (StatusCode, String) {
    let (status, sentence) = match desk.orders.give(Ask::Recall).await {
        Answer::Recalled => (StatusCode::OK, "serving again".to_owned()),
        Answer::NoDrain => (StatusCode::OK, "there is no drain to take back".to_owned()),
        Answer::Signalled(signal) => {
            (StatusCode::CONFLICT, format!("{signal} has come: the drain can't be taken back any more"))
        }
        Answer::Deaf => {
            let policy = desk.lifecycle.value().drain.settings().drain_policy;
            (StatusCode::CONFLICT, format!("under {policy} the listener is closed already, and can't be opened again"))
        }
        Answer::Begun | Answer::UnderWay | Answer::Exiting => {
            (StatusCode::CONFLICT, "the process is exiting: the drain can't be taken back any more".to_owned())
        }
    };
    (status, line(&sentence))
}

async fn status<W: World>(State(desk): State<Desk<W>>, headers: HeaderMap) -> Response {
    let lifecycle = desk.lifecycle.value();
    let status = Status::new(&lifecycle, &desk.registry, desk.world.now(), MAX_NAMED);
    if !wants_json(&headers) {
        return status.to_string().into_response();
    }
    let json = serde_json::to_string(&status).expect("a status has texts and numbers only");
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], line(&json)).into_response()
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|media| media.trim().starts_with("application/json"))
}

fn line(sentence: &str) -> String {
    format!("{sentence}\n")
}
