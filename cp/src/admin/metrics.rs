//! `GET /metrics`: what a Prometheus scrapes, in its text format, or as OpenMetrics for whoever accepts that.
//!
//! Gauges say how it is at the moment of the question, counters what has happened since the process started. Nobody is named.
//! A time that there is not (no drain, no bound) is no sample.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lastcall_core::{Activity, EndReason, Phase, Time};
use lastcall_world::World;
use prometheus::core::Collector;
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Opts, Registry, TEXT_FORMAT, TextEncoder};

use super::accepts;
use super::drain::Admin;
use crate::lifecycle::Lifecycle;
use crate::records::Lost;
use crate::registry::{CANCEL_REQUEST, Totals};

/// One phase of a drain, the others being 0.
const PHASES: [Phase; 6] =
    [Phase::Serving, Phase::LameDuck, Phase::Grace, Phase::Boundary, Phase::Wall, Phase::Drained];

pub(super) async fn metrics<W: World>(State(admin): State<Admin<W>>, headers: HeaderMap) -> Response {
    let now = admin.world.now();
    let lifecycle = admin.lifecycle.value();
    let text = Page::default().write(&lifecycle, &admin.registry, (admin.lost)(), now);
    match text {
        Ok(text) if accepts(&headers, OPEN_METRICS) => {
            ([(header::CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS_1))], open_metrics(&text)).into_response()
        }
        Ok(text) => ([(header::CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT))], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_1: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The same as OpenMetrics: there a counter's family has no `_total`, which only its samples have, and the end is marked.
fn open_metrics(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("# ").and_then(|line| line.split_once("_total ")) {
        Some((head, rest)) if !head.trim_start_matches("HELP ").trim_start_matches("TYPE ").contains(' ') => {
            format!("# {head} {rest}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).chain(["# EOF\n".to_owned()]).collect()
}

/// The metrics of one answer.
#[derive(Default)]
struct Page(Registry);

impl Page {
    fn write(
        self,
        lifecycle: &Lifecycle,
        registry: &crate::registry::Registry,
        lost: Lost,
        now: Time,
    ) -> prometheus::Result<String> {
        let drain = &lifecycle.drain;
        self.of_now(registry, now)?;
        let phase = self.gauges("lastcall_drain_phase", "1 for the phase that the process is in", "phase")?;
        for each in PHASES {
            let is_in = each == drain.phase(now);
            phase.with_label_values(&[each.name()]).set(if is_in { 1.0 } else { 0.0 });
        }
        if let Some(signal) = drain.signal() {
            self.gauge("lastcall_draining_seconds", "time since the drain began", seconds(now.since(signal)))?;
        }
        if let Some(bound) = registry.bound(now) {
            let help =
                "time until the process is gone at the latest; while a worker executes, from when none does any more";
            self.gauge("lastcall_drain_latest_exit_seconds", help, seconds(bound.at.since(now)))?;
        }
        let settings = drain.settings();
        let most = f64::from(settings.max_connections);
        self.gauge("lastcall_max_connections", "sessions at a time, as the setting says", most)?;
        self.since_start(&registry.totals(), lost)?;
        TextEncoder::new().encode_to_string(&self.0.gather())
    }

    /// Who is here.
    fn of_now(&self, registry: &crate::registry::Registry, now: Time) -> prometheus::Result<()> {
        let here = registry.activities();
        let help = "connections by what they do; handshakes and connections that are being closed are among them";
        let connections = self.gauges("lastcall_connections", help, "activity")?;
        for activity in Activity::ALL {
            let count = here.get(activity.name()).copied().unwrap_or(0);
            connections.with_label_values(&[activity.name()]).set(count as f64);
        }
        let (_, longest) = registry.longest(1);
        if let Some((_, member)) = longest.first() {
            let help =
                "for how long the connection has done what it does that has done so for longest: who holds a drain";
            self.gauge("lastcall_oldest_holder_seconds", help, seconds(now.since(member.since)))?;
        }
        Ok(())
    }

    fn since_start(&self, totals: &Totals, lost: Lost) -> prometheus::Result<()> {
        let help = "connections that came in time, also those refused for want of room and those that brought a cancel request";
        self.counter("lastcall_connections_accepted_total", help, totals.came as f64)?;
        let help = "connections whose end was decided, by why; one that is being closed is still there";
        let ended = self.counters("lastcall_connections_ended_total", help, "reason")?;
        for reason in EndReason::ALL.into_iter().map(EndReason::name).chain([CANCEL_REQUEST]) {
            let count = totals.ended_by.get(reason).copied().unwrap_or(0);
            ended.with_label_values(&[reason]).inc_by(count as f64);
        }
        let help = "sessions refused with 57P03 behind the lame duck";
        self.counter("lastcall_sessions_refused_total", help, totals.refused as f64)?;
        let help = "cancel requests that reached a worker";
        self.counter("lastcall_cancel_requests_total", help, totals.cancels as f64)?;
        let help = "sessions whose statement was cancelled at a wall";
        self.counter("lastcall_sessions_cut_total", help, totals.cut as f64)?;
        let help = "statements answered, of sessions that have ended; a batch counts once";
        self.counter("lastcall_statements_total", help, totals.statements as f64)?;
        let help = "time in which workers executed, of sessions that have ended";
        self.counter("lastcall_executing_seconds_total", help, seconds(totals.executing))?;
        let help = "bytes passed on, of sessions that have ended";
        let bytes = self.counters("lastcall_bytes_total", help, "to")?;
        bytes.with_label_values(&["worker"]).inc_by(totals.received as f64);
        bytes.with_label_values(&["client"]).inc_by(totals.sent as f64);
        self.counter("lastcall_log_lines_dropped_total", "lines of the log that nobody read", lost.lines as f64)?;
        let help = "end records and reports that nobody read";
        self.counter("lastcall_records_dropped_total", help, lost.records as f64)
    }

    fn keep(&self, metric: impl Collector + 'static) -> prometheus::Result<()> {
        self.0.register(Box::new(metric))
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        self.keep(gauge)
    }

    fn counter(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let counter = Counter::new(name, help)?;
        counter.inc_by(value);
        self.keep(counter)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> prometheus::Result<GaugeVec> {
        let gauges = GaugeVec::new(Opts::new(name, help), &[label])?;
        self.keep(gauges.clone())?;
        Ok(gauges)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> prometheus::Result<CounterVec> {
        let counters = CounterVec::new(Opts::new(name, help), &[label])?;
        self.keep(counters.clone())?;
        Ok(counters)
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Shown;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    /// The samples at this time, without their help.
    fn samples(registry: &crate::registry::Registry, now: Time) -> Vec<String> {
        let lifecycle = Lifecycle::serving(registry.drain());
        let text = Page::default().write(&lifecycle, registry, Lost { lines: 3, records: 0 }, now).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn openmetrics_has_total_in_samples_only_and_an_end() {
        let text = "# HELP a_total of a_total things\n# TYPE a_total counter\na_total{to=\"x_total \"} 1\n# HELP g a _total of g\n# TYPE g gauge\ng 2\n";
        let open = "# HELP a of a_total things\n# TYPE a counter\na_total{to=\"x_total \"} 1\n# HELP g a _total of g\n# TYPE g gauge\ng 2\n# EOF\n";
        assert_eq!(open_metrics(text), open);
    }

    #[test]
    fn a_scrape_says_who_is_here_and_how_the_drain_stands() {
        let registry = crate::registry::Registry::default();
        let slot = registry.enter("10.0.0.7:40000".parse().unwrap(), at(1)).unwrap();
        slot.update(Shown { activity: Activity::Executing, since: at(5), clock: None }, || None);
        registry.count_refused();
        let serving = samples(&registry, at(8));
        for expected in [
            "lastcall_connections{activity=\"executing\"} 1",
            "lastcall_connections{activity=\"idle\"} 0",
            "lastcall_connections_accepted_total 1",
            "lastcall_drain_phase{phase=\"serving\"} 1",
            "lastcall_log_lines_dropped_total 3",
            "lastcall_max_connections 10000",
            "lastcall_oldest_holder_seconds 3",
            "lastcall_sessions_refused_total 1",
        ] {
            assert!(serving.contains(&expected.to_owned()), "{expected}: {serving:#?}");
        }
        assert!(!serving.iter().any(|sample| sample.starts_with("lastcall_draining_seconds")));

        registry.order(|process| process.handle_request(at(10)));
        registry.count_refused();
        let draining = samples(&registry, at(12));
        for expected in [
            "lastcall_draining_seconds 2",
            "lastcall_drain_phase{phase=\"lame_duck\"} 1",
            // What was counted before the drain still counts.
            "lastcall_sessions_refused_total 2",
            "lastcall_connections_accepted_total 1",
            "lastcall_drain_latest_exit_seconds 305",
        ] {
            assert!(draining.contains(&expected.to_owned()), "{expected}: {draining:#?}");
        }
        drop(slot.leave(EndReason::Boundary, at(13)));
        let ended = "lastcall_connections_ended_total{reason=\"boundary\"} 1".to_owned();
        assert!(samples(&registry, at(14)).contains(&ended));
    }
}
