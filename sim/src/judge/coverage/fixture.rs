//! Small runs made by hand, for the tests of what counts: a line for each thing that happens, in order.

use std::time::Duration;

use lastcall_core::{Settings, Time};
use lastcall_world::Signal;

use super::{Clock, Coverage, Mark, Race};
use crate::cast::history::{Conn, Entry, Event, History, Outcome, RequestKind};
use crate::cast::pod::report::{Activity, EndReason, Left};
use crate::story::Story;

/// A run in the making. Times are its seconds. Clients are named like `etl.1`, requests like `etl.1/7`.
#[derive(Default)]
pub(super) struct Run {
    history: History,
    settings: Settings,
}

pub(super) fn conn(name: &str) -> Conn {
    let (client, copy) = name.split('/').next().and_then(|name| name.rsplit_once('.')).unwrap();
    Conn { client: client.to_owned(), copy: copy.parse().unwrap(), attempt: 1 }
}

impl Run {
    pub(super) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Run {
        change(&mut self.settings);
        self
    }

    pub(super) fn event(mut self, at: f64, event: Event) -> Run {
        let at = Time::from_epoch(Duration::from_secs_f64(at));
        assert!(self.history.entries.last().is_none_or(|last| last.at <= at), "times must not go back: {event:?}");
        self.history.entries.push(Entry::new(at, event));
        self
    }

    pub(super) fn term(self, at: f64) -> Run {
        self.event(at, Event::SignalSent { signal: Signal::Term })
    }

    pub(super) fn doing(self, at: f64, connection: u32, activity: Activity) -> Run {
        self.event(at, Event::ActivityChanged { connection, activity })
    }

    pub(super) fn left(self, at: f64, session: u32, who: &str, reason: EndReason) -> Run {
        let left = Left { session, who: who.to_owned(), reason, at: Time::from_epoch(Duration::from_secs_f64(at)) };
        self.event(at, Event::ConnectionLeft { left })
    }

    pub(super) fn fatal(self, at: f64, name: &str, code: &str, detail: Option<&str>) -> Run {
        let (code, detail) = (code.to_owned(), detail.map(str::to_owned));
        self.event(at, Event::FatalRead { conn: conn(name), code, message: String::new(), detail, mid_message: false })
    }

    pub(super) fn connecting(self, at: f64, name: &str) -> Run {
        self.event(at, Event::Connecting { conn: conn(name) })
    }

    pub(super) fn startup(self, at: f64, name: &str) -> Run {
        self.event(at, Event::StartupSent { conn: conn(name) })
    }

    pub(super) fn session(self, at: f64, name: &str) -> Run {
        self.event(at, Event::SessionBegan { conn: conn(name) })
    }

    pub(super) fn client_left(self, at: f64, name: &str) -> Run {
        self.event(at, Event::ClientLeft { conn: conn(name), how: "disconnect" })
    }

    pub(super) fn sent(self, at: f64, tag: &str) -> Run {
        let kind = RequestKind::Query;
        self.event(at, Event::RequestSent { conn: conn(tag), tag: tag.to_owned(), kind })
    }

    pub(super) fn cancel(self, at: f64, tag: &str) -> Run {
        self.event(at, Event::CancelSent { conn: conn(tag), tag: tag.to_owned() })
    }

    pub(super) fn complete(self, at: f64, tag: &str) -> Run {
        self.event(at, Event::RequestEnded { conn: conn(tag), tag: tag.to_owned(), outcome: Outcome::Complete })
    }

    pub(super) fn error(self, at: f64, tag: &str, code: &str) -> Run {
        let outcome = Outcome::Error(code.to_owned());
        self.event(at, Event::RequestEnded { conn: conn(tag), tag: tag.to_owned(), outcome })
    }

    pub(super) fn exit(self, at: f64) -> Run {
        self.event(at, Event::PodExited { code: 0, tasks: Vec::new() })
    }

    pub(super) fn coverage(&self) -> Coverage {
        Coverage::of(&Story::of(&self.history, &self.settings))
    }

    /// The clocks that fired.
    pub(super) fn fired(&self) -> Vec<Clock> {
        let coverage = self.coverage();
        Clock::ALL.into_iter().filter(|clock| coverage.reached(Mark::Fired(*clock)) > 0).collect()
    }

    /// The races that were run.
    pub(super) fn races(&self) -> Vec<Race> {
        let coverage = self.coverage();
        Race::ALL.into_iter().filter(|race| coverage.reached(Mark::Race(*race)) > 0).collect()
    }
}
