//! The kubelet: probes readiness, asks for drains, sends signals, and SIGKILL when the termination grace is over. It is also
//! the clock of everything else that a scenario lets happen ([`super::faults`]).
//!
//! Two liberties, both stated: a real kubelet probes a terminating pod in the same period to its end, this one less and less
//! often behind the signal, so that 24 h of waiting cost nothing; and a container runtime sends SIGTERM once, while scenarios
//! may send any signal at any time.

use std::sync::Arc;
use std::time::Duration;

use lastcall_core::Time;
use lastcall_world::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::cast::history::{Event, Recorder};
use crate::cast::worker::Worker;
use crate::cast::{faults, pod};
use crate::scenario::{Action, Pod, Scenario};
use crate::stage::SimWorld;

/// The kubelet's name as a host.
pub const NAME: &str = "kubelet";

/// `terminationGracePeriodSeconds` of a pod that doesn't say: the production system's.
pub const TERMINATION_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// Kubernetes' own default period of a readiness probe.
pub const READINESS_PERIOD: Duration = Duration::from_secs(10);
/// How often a metrics scraper asks over the connection that it keeps.
const SCRAPE_PERIOD: Duration = Duration::from_secs(15);
/// Negative answers behind the signal after which each pause is longer than the last.
const NEGATIVES: u32 = 3;
/// The longest pause between two probes.
const LONGEST_PERIOD: Duration = Duration::from_secs(20 * 60);
/// The largest answer of the admin port.
const ANSWER: usize = 1024 * 1024;

/// And in one read.
const ANSWER_PIECE: usize = 1024;

/// The same, of a deployment's pods: Kubernetes' own.
pub const TERMINATION_GRACE_OF_DEPLOYMENT: Duration = Duration::from_secs(30);

/// How often a pod is asked whether it is ready.
pub fn readiness_period(pod: &Pod) -> Duration {
    pod.readiness_period.map_or(READINESS_PERIOD, |span| span.0)
}

/// The termination grace of a scenario's pods.
pub fn termination_grace(scenario: &Scenario) -> Duration {
    let default = if scenario.deployment.is_some() { TERMINATION_GRACE_OF_DEPLOYMENT } else { TERMINATION_GRACE };
    scenario.pod.termination_grace.map_or(default, |span| span.0)
}

/// Starts the probes, and lets happen what the scenario says. Returns when all of it has.
pub async fn run<W: SimWorld>(world: W, recorder: Recorder, scenario: Scenario, worker: Worker) {
    let pod = Ward { world: world.clone(), recorder: recorder.clone(), host: pod::NAME };
    pod.look_after(&scenario.pod, |_| {});
    let grace = termination_grace(&scenario);
    let mut events = scenario.events.clone();
    events.sort_by_key(|event| event.at);
    let mut killing = false;
    let hook = Arc::new(Mutex::new(()));
    for event in events {
        world.sleep_until(Time::from_epoch(event.at.0)).await;
        if recorder.is_pod_gone() {
            continue;
        }
        let signal = match event.action {
            Action::Sigterm => Signal::Term,
            Action::Sigint => Signal::Int,
            Action::Sigquit => Signal::Quit,
            Action::Sigkill => {
                pod.kill();
                continue;
            }
            Action::Drain | Action::Undrain => {
                let asks = pod.clone().ask_to_drain(event.action == Action::Drain, hook.clone());
                world.spawn("preStop hook", asks);
                continue;
            }
            _ => {
                faults::befall(&world, &recorder, &worker, &event);
                continue;
            }
        };
        pod.signal(signal);
        if event.action == Action::Sigterm && !killing {
            killing = true;
            pod.kill_at(world.now() + grace);
        }
    }
}

/// One pod, as its kubelet sees it.
#[derive(Clone)]
pub(crate) struct Ward<W> {
    pub(crate) world: W,
    pub(crate) recorder: Recorder,
    /// Its name as a host.
    pub(crate) host: &'static str,
}

impl<W: SimWorld> Ward<W> {
    /// Starts the probes, and what else asks a pod by itself. `ready` is told what each probe of readiness says.
    pub(crate) fn look_after(&self, pod: &Pod, ready: impl Fn(bool) + Send + Sync + 'static) {
        let period = readiness_period(pod);
        self.world.spawn("readiness probe", self.clone().probe(period, ready));
        if pod.admin_keepalive {
            self.world.spawn("scraper", self.clone().scrape());
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.recorder.record(self.world.now(), Event::SignalSent { signal });
        self.world.send_signal(self.host, signal);
    }

    pub(crate) fn kill_at(&self, at: Time) {
        let pod = self.clone();
        self.world.spawn("sigkill", async move {
            pod.world.sleep_until(at).await;
            pod.kill();
        });
    }

    /// SIGKILL, if the pod is still there.
    pub(crate) fn kill(&self) {
        if !self.recorder.is_pod_gone() {
            self.recorder.record(self.world.now(), Event::Killed);
            self.world.kill(self.host);
        }
    }

    /// Asks the admin port for a drain, or to take that back. One `hook` at a time, as it would be a script: of two requests
    /// that cross nobody could say which was first.
    pub(crate) async fn ask_to_drain(self, begin: bool, hook: Arc<Mutex<()>>) {
        let _turn = hook.lock().await;
        let method = if begin { "POST" } else { "DELETE" };
        self.recorder.record(self.world.now(), Event::DrainAsked { begin });
        let answer = match self.connect().await {
            Some(mut connection) => ask(&mut connection, method, "/drain", "close").await,
            None => None,
        };
        let status = answer.and_then(|answer| answer.split(' ').nth(1)?.parse().ok());
        self.recorder.record(self.world.now(), Event::DrainAnswered { begin, status });
    }

    /// Probes readiness and liveness, each time over a connection of its own, as a kubelet does.
    async fn probe(self, mut period: Duration, tell: impl Fn(bool) + Send + Sync) {
        let Ward { world, recorder, .. } = &self;
        let mut negatives = 0;
        while !recorder.is_pod_gone() {
            let next = world.now() + period;
            if let Some(ready) = self.says_ok("/readyz").await {
                recorder.record(world.now(), Event::ReadinessProbed { ready });
                tell(ready);
                if let Some(live) = self.says_ok("/livez").await {
                    recorder.record(world.now(), Event::LivenessProbed { live });
                }
                if recorder.is_pod_signalled() {
                    self.list().await;
                }
                if recorder.is_pod_signalled() && !ready {
                    negatives += 1;
                }
                if negatives > NEGATIVES {
                    period = (period * 2).min(LONGEST_PERIOD.max(period));
                }
            }
            world.sleep_until(next).await;
        }
    }

    /// Whether the answer to one question, over a connection of its own, is HTTP 200; `None` if nobody listens.
    async fn says_ok(&self, path: &str) -> Option<bool> {
        let answer = ask(&mut self.connect().await?, "GET", path, "close").await;
        Some(answer.is_some_and(|answer| answer.contains(" 200 ")))
    }

    /// Asks who is here, as somebody does who wonders why the pod is still there; nothing where nobody listens.
    async fn list(&self) {
        let asked = self.world.now();
        let Some(mut connection) = self.connect().await else { return };
        let answer = ask_for(&mut connection, "GET", "/drain", "close", |_| false).await;
        let listed = answer.and_then(|answer| serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok());
        self.recorder.record(self.world.now(), Event::DrainListed { asked, listed });
    }

    /// Keeps one HTTP connection to the admin port, as a metrics scraper does, until it is closed.
    async fn scrape(self) {
        let Some(mut connection) = self.connect().await else { return };
        while ask(&mut connection, "GET", "/livez", "keep-alive").await.is_some() {
            let next = self.world.now() + SCRAPE_PERIOD;
            self.world.sleep_until(next).await;
        }
    }

    async fn connect(&self) -> Option<W::Stream> {
        self.world.connect(&pod::admin_address(self.host)).await.ok()
    }
}

/// One request; the head of the answer, or `None` if the connection gave none.
async fn ask<S>(connection: &mut S, method: &str, path: &str, keep: &str) -> Option<String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let has_head = |answer: &[u8]| answer.windows(4).any(|bytes| bytes == b"\r\n\r\n");
    ask_for(connection, method, path, keep, has_head).await
}

/// One request; the answer up to where `is_enough` says so, or to its end.
async fn ask_for<S>(
    connection: &mut S,
    method: &str,
    path: &str,
    keep: &str,
    is_enough: impl Fn(&[u8]) -> bool,
) -> Option<String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\nx-lastcall: drain\r\nconnection: \
         {keep}\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while answer.len() < ANSWER {
        answer.reserve(ANSWER_PIECE);
        match connection.read_buf(&mut answer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if is_enough(&answer) {
            break;
        }
    }
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}
