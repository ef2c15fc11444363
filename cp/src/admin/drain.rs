//! `/drain`: to drain without a signal, to take that back, and to ask what the drain waits for.
//!
//! | request | answer |
//! |---|---|
//! | `POST /drain` | 202 when the drain has begun, 200 when one was under way |
//! | `DELETE /drain` | 200 when it is taken back or there is none; 409 when a signal has come, or it is too late |
//! | `GET /drain` | who is here and what it waits for, a line a connection; JSON for `Accept: application/json` |

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::guard::Token;
use super::{MAX_NAMED, accepts, json, line};
use crate::lifecycle::Lifecycle;
use crate::orders::{Answer, Ask, Orders};
use crate::records::Lost;
use crate::registry::Registry;
use crate::status::Status;
use lastcall_world::World;
use lastcall_world::watched::Watched;

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

pub(super) fn routes<W: World>() -> Router<Admin<W>> {
    Router::new().route("/drain", get(status::<W>).post(begin::<W>).delete(recall::<W>))
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
        _ => (StatusCode::CONFLICT, "the process is exiting: the drain can't be taken back any more".to_owned()),
    };
    (status, line(&sentence))
}

async fn status<W: World>(State(admin): State<Admin<W>>, headers: HeaderMap) -> Response {
    let lifecycle = admin.lifecycle.value();
    let status = Status::new(&lifecycle, &admin.registry, admin.world.now(), MAX_NAMED);
    if !wants_json(&headers) {
        return status.to_string().into_response();
    }
    json(&status)
}

fn wants_json(headers: &HeaderMap) -> bool {
    accepts(headers, "application/json")
}
