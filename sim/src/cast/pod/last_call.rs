//! The reference control plane as a pod: `cp::accept::serve`. It reports everything, and no other file of the rooms knows it.

use std::sync::Arc;

use cp::accept::{Service, serve};
use cp::records::{self, Change, Meter};
use futures_util::future::BoxFuture;

use super::report::{Activity, Cause, DrainReport, EndReason, EndRecord, Left};
use super::{Config, Pod, Report, Reporter};
use crate::cast::history::Login;
use crate::stage::AnyWorld;
use lastcall_world::handover::Alone;

/// `lastcall`.
#[derive(Clone, Copy, Debug)]
pub struct LastCall;

/// The pod that is judged where nobody else is named.
pub fn last_call() -> Arc<dyn Pod> {
    Arc::new(LastCall)
}

impl Pod for LastCall {
    fn reports(&self) -> &[Report] {
        &Report::ALL
    }

    fn run(&self, world: AnyWorld, config: Config) -> BoxFuture<'static, u8> {
        let Config { listen, worker, admin, settings, reporter } = config;
        let service = Service {
            listen,
            workers: vec![worker],
            admin: Some(admin),
            token: None,
            tls: Arc::default(),
            settings,
            reload: None,
        };
        Box::pin(async move {
            let exit = serve(world, service, Reports(reporter.clone()), Alone)
                .await
                .expect("the simulated addresses are free");
            if let Some(report) = exit.report {
                reporter.drained(drain_report(report));
            }
            exit.code
        })
    }
}

#[derive(Clone)]
struct Reports(Reporter);

impl Meter for Reports {
    fn session_ended(&self, record: &records::EndRecord) {
        self.0.session_ended(EndRecord {
            session: record.session,
            application: record.application.clone(),
            login: Login { user: record.user.clone(), database: record.database.clone() },
            statements: record.statements,
            began: record.began,
            ended: record.ended,
            reason: reason(record.reason.name()),
            executing: record.executing,
            sent: record.sent,
        });
    }

    fn activity_changed(&self, change: &Change) {
        let activity = Activity::named(change.activity.name()).expect("its activities are the contract's");
        self.0.activity_changed(change.connection, activity);
    }

    fn connection_left(&self, gone: &records::Left) {
        self.0.connection_left(left(gone));
    }

    async fn flush(&self) {}
}

fn left(left: &records::Left) -> Left {
    Left { session: left.session, who: left.who.clone(), reason: reason(left.reason.name()), at: left.at }
}

fn reason(name: &str) -> EndReason {
    EndReason::named(name).expect("its reasons are the contract's")
}

fn drain_report(report: records::DrainReport) -> DrainReport {
    DrainReport {
        cause: match report.cause {
            cp::lifecycle::Cause::Signal(signal) => Cause::Signal(signal),
            // No pod of a scenario is followed by another process.
            cp::lifecycle::Cause::Request | cp::lifecycle::Cause::Handover => Cause::Request,
        },
        policy: report.policy,
        started: report.started,
        ended: report.ended,
        connections_at_signal: report.connections_at_signal as u64,
        ended_by: report.ended_by,
        refused: report.refused,
        cancels: report.cancels,
        last: report.last.as_ref().map(left),
    }
}
