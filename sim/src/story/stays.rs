//! Each of the pod's connections from its accept to its end: what it did when, and how it left.
//!
//! Only what the pod itself reports of them is read here. It sorts and does not judge.

use std::collections::BTreeMap;
use std::time::Duration;

use lastcall_core::Time;

use crate::cast::history::Event;
use crate::cast::pod::report::{Activity, EndReason, Left};

/// One connection's stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Stay<'a> {
    /// Its number, unique in a run.
    pub connection: u32,
    /// What it did, one after the other, without a gap.
    pub stages: Vec<Stage>,
    /// How it left; `None` if it was there when the process was gone.
    pub left: Option<&'a Left>,
}

/// What a connection did for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What.
    pub activity: Activity,
    /// Since when.
    pub from: Time,
    /// Until when, that instant not included.
    pub to: Time,
}

/// Where the log does not say otherwise.
const OPEN_END: Time = Time::from_epoch(Duration::MAX);

/// All stays of a run, in the order of the accepts.
#[derive(Debug, Default)]
pub(super) struct Stays<'a> {
    pub(super) all: Vec<Stay<'a>>,
    open: BTreeMap<u32, usize>,
}

impl<'a> Stays<'a> {
    pub(super) fn add(&mut self, at: Time, event: &'a Event) {
        match event {
            Event::ActivityChanged { connection, activity } => {
                let index = *self.open.entry(*connection).or_insert_with(|| {
                    self.all.push(Stay { connection: *connection, stages: Vec::new(), left: None });
                    self.all.len() - 1
                });
                self.all[index].end_at(at);
                self.all[index].stages.push(Stage { activity: *activity, from: at, to: OPEN_END });
            }
            Event::ConnectionLeft { left } => {
                if let Some(index) = self.open.remove(&left.session) {
                    self.all[index].end_at(at);
                    self.all[index].left = Some(left);
                }
            }
            Event::PodExited { .. } | Event::Killed | Event::OutOfTime | Event::OutOfBudget { .. } => self.end_at(at),
            _ => {}
        }
    }

    /// Whoever is still there was there until then.
    pub(super) fn end_at(&mut self, at: Time) {
        for index in std::mem::take(&mut self.open).into_values() {
            self.all[index].end_at(at);
        }
    }
}

impl Stay<'_> {
    /// The last thing that it did before it was closed; `None` if it only ever was.
    pub fn before_close(&self) -> Option<Stage> {
        self.stages.iter().rfind(|stage| stage.activity != Activity::Closing).copied()
    }

    /// Since when it was being closed.
    pub fn closing(&self) -> Option<Stage> {
        self.stages.last().filter(|stage| stage.activity == Activity::Closing).copied()
    }

    /// Why it ended.
    pub fn reason(&self) -> Option<EndReason> {
        self.left.map(|left| left.reason)
    }

    fn end_at(&mut self, at: Time) {
        if let Some(last) = self.stages.last_mut() {
            last.to = last.to.min(at);
        }
    }
}
