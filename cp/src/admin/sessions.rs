//! `/sessions`: who is here, and the end of one of them.
//!
//! | request | answer |
//! |---|---|
//! | `GET /sessions` | JSON: the [`MAX_NAMED`] that have been doing what they do for longest, and how many are left out |
//! | `DELETE /sessions/7` | 202 when session 7 is being ended, 200 when it was already, 404 when it is not here |
//!
//! What is ended so is told by whom: its statement is cancelled, and its FATAL (57P01) has a DETAIL of its own.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get};

use super::drain::Admin;
use super::{MAX_NAMED, json, line};
use crate::orders::{Answer, Ask};
use crate::status::Sessions;
use lastcall_world::World;

pub(super) fn routes<W: World>() -> Router<Admin<W>> {
    Router::new().route("/sessions", get(list::<W>)).route("/sessions/{session}", delete(end::<W>))
}

async fn list<W: World>(State(admin): State<Admin<W>>) -> Response {
    json(&Sessions::new(&admin.registry, admin.world.now(), MAX_NAMED))
}

async fn end<W: World>(State(admin): State<Admin<W>>, Path(session): Path<String>) -> (StatusCode, String) {
    let Ok(session) = session.parse::<u32>() else {
        return (StatusCode::NOT_FOUND, line("a session is a number; `lastcall status` lists those that are here"));
    };
    let (status, sentence) = match admin.orders.give(Ask::End(session)).await {
        Answer::Ended => (StatusCode::ACCEPTED, format!("session {session} is being ended")),
        Answer::EndsAlready => (StatusCode::OK, format!("session {session} ends already")),
        Answer::NotHere => {
            let sentence = format!("there is no session {session}; `lastcall status` lists those that are here");
            (StatusCode::NOT_FOUND, sentence)
        }
        _ => (StatusCode::CONFLICT, "the process is exiting, and every session ends with it".to_owned()),
    };
    (status, line(&sentence))
}
