//! The process: it listens, and when it is told to stop it drains.
//!
//! [`serve`] starts the listeners and then does nothing but watch over the drain: signals come in, the registry empties, the
//! process is over as soon as that is true. The drain's rules are in [`core::drain`](crate::core::drain); each connection
//! applies them to itself.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::admin;
use crate::alarm::Alarm;
use crate::connection;
use crate::core::{Drain, DrainPolicy, EndReason, Settings, Time};
use crate::course::Front;
use crate::crew::Crew;
use crate::lifecycle::Lifecycle;
use crate::meter::{DrainReport, EXIT_DRAINED, EXIT_QUIT, EXIT_WALL, Exit, Meter, Rounded};
use crate::notice::{Notice, Reader};
use crate::registry::{Registry, Tally};
use crate::world::{Listener, Signal, World};

/// How often a drain says what it waits for.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How many connections it names each time, those that wait longest first.
const REPORT_AT_MOST: usize = 10;
/// Connections beyond `max_connections` that may be in their handshake, or wait for their refusal. More are closed at once.
const RESERVE: usize = 1024;
/// Pause after the kernel refused to accept: what it lacks (file descriptors, memory) won't be back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the last tasks may take to end, once nothing is left for them to do.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// Where the process listens, for whom it stands, and by which rules.
#[derive(Clone, Debug)]
pub struct Service {
    /// Address for clients, `host:port`.
    pub listen: String,
    /// Address of the worker, `host:port`: any server that speaks the PostgreSQL protocol.
    pub worker: String,
    /// Address for readiness and liveness over HTTP; none for none.
    pub admin: Option<String>,
    /// The rules.
    pub settings: Settings,
}

/// Why the process could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address can't be listened on.
    #[error("cannot listen on {address} (--{flag}): {source}")]
    Bind {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: String,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Serves until a signal, drains, and says how that went.
///
/// # Errors
/// [`ServeError`] if it can't listen. Later trouble with single connections ends these and is logged.
pub async fn serve<W: World, M: Meter>(world: W, service: Service, meter: M) -> Result<Exit, ServeError> {
    let listener = bind(&world, "listen", &service.listen).await?;
    let admin = match &service.admin {
        Some(address) => Some(bind(&world, "admin", address).await?),
        None => None,
    };
    let front = Front {
        pace_offset: world.random("pace") as u32,
        world,
        meter,
        settings: Arc::new(service.settings),
        worker: service.worker.into(),
        registry: Registry::default(),
        lifecycle: Notice::new(Lifecycle::Serving),
        crew: Crew::default(),
    };
    tracing::info!(
        listen = listener.local_addr().map(tracing::field::display).ok(),
        worker = %front.worker,
        policy = %front.settings.drain_policy,
        "serving"
    );
    let accept = Accept {
        front: front.clone(),
        listener,
        drain: Drain::new(front.settings.clone()),
        lifecycle: front.lifecycle.subscribe(),
        pause: None,
        alarm: Alarm::new(front.world.clone()),
        late: Arc::new(()),
    };
    front.crew.spawn(&front.world, "accept", accept.run());
    if let Some(listener) = admin {
        admin::spawn(&front.world, &front.crew, listener, front.lifecycle.clone());
    }
    Ok(Watch::new(front).run().await)
}

async fn bind<W: World>(world: &W, flag: &'static str, address: &str) -> Result<W::Listener, ServeError> {
    let bound = world.bind(address).await;
    bound.map_err(|source| ServeError::Bind { flag, address: address.to_owned(), source })
}

/// Accepts connections, each into its own task.
struct Accept<W: World, M> {
    front: Front<W, M>,
    listener: W::Listener,
    drain: Drain,
    lifecycle: Reader<Lifecycle>,
    pause: Option<Time>,
    alarm: Alarm<W>,
    /// Held by each connection that came too late to have a place.
    late: Arc<()>,
}

impl<W: World, M: Meter> Accept<W, M> {
    async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while let Poll::Ready(lifecycle) = self.lifecycle.poll_changed(cx) {
                match lifecycle {
                    Lifecycle::Serving => {}
                    Lifecycle::Draining { since, .. } => self.drain.handle_signal(since),
                    Lifecycle::Exiting => return Poll::Ready(()),
                }
            }
            // Both old policies stop listening at the signal: that nobody can cancel any more is part of what was wrong.
            let deaf = self.front.settings.drain_policy != DrainPolicy::IdleAware;
            if deaf && self.drain.signal().is_some() {
                return Poll::Ready(());
            }
            if let Some(until) = self.pause {
                if !self.alarm.poll_at(until, cx) {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, peer))) => self.admit(stream, peer),
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    self.pause = Some(self.front.world.now() + ACCEPT_PAUSE);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn admit(&self, stream: W::Stream, peer: SocketAddr) {
        let Front { world, registry, crew, settings, .. } = &self.front;
        let now = world.now();
        if self.drain.accepts(now) {
            if registry.connections() >= settings.max_connections as usize + RESERVE {
                return tracing::warn!(%peer, "connection closed at once: too many handshakes");
            }
            // In the same step in which it was accepted: whoever counts from here on counts it.
            let secret = world.random("cancel-key") as u32;
            let place = registry.enter(peer.to_string(), secret, now);
            crew.spawn(world, "session", connection::serve(self.front.clone(), stream, place));
        } else if Arc::strong_count(&self.late) <= RESERVE {
            let (front, late) = (self.front.clone(), self.late.clone());
            crew.spawn(world, "late", async move {
                connection::refuse(front, stream).await;
                drop(late);
            });
        }
    }
}

/// Watches over the process from the first signal to its end.
struct Watch<W: World, M> {
    front: Front<W, M>,
    drain: Drain,
    signal: Option<Signal>,
    /// SIGINTs so far.
    interrupts: u32,
    connections_at_signal: usize,
    /// For the end of the lame duck, and for the next report.
    lame_duck: Alarm<W>,
    report: Alarm<W>,
    next_report: Time,
}

enum Happened {
    Signal(Signal),
    Drained,
    TimeToReport,
}

impl<W: World, M: Meter> Watch<W, M> {
    fn new(front: Front<W, M>) -> Self {
        Watch {
            drain: Drain::new(front.settings.clone()),
            signal: None,
            interrupts: 0,
            connections_at_signal: 0,
            lame_duck: Alarm::new(front.world.clone()),
            report: Alarm::new(front.world.clone()),
            next_report: Time::EPOCH,
            front,
        }
    }

    async fn run(mut self) -> Exit {
        let world = self.front.world.clone();
        let mut signals = Box::pin(world.next_signal());
        loop {
            match std::future::poll_fn(|cx| self.poll(signals.as_mut(), cx)).await {
                Happened::Signal(Signal::Quit) => return self.quit().await,
                Happened::Signal(signal) => {
                    self.handle_signal(signal);
                    signals = Box::pin(world.next_signal());
                }
                Happened::TimeToReport => self.say_what_it_waits_for(),
                Happened::Drained => return self.exit().await,
            }
        }
    }

    fn poll(&mut self, signals: Pin<&mut impl Future<Output = Signal>>, cx: &mut Context<'_>) -> Poll<Happened> {
        if let Poll::Ready(signal) = signals.poll(cx) {
            return Poll::Ready(Happened::Signal(signal));
        }
        let Some(earliest_exit) = self.drain.earliest_exit() else {
            return Poll::Pending;
        };
        let lame_duck_over = self.lame_duck.poll_at(earliest_exit, cx);
        if self.front.registry.poll_empty(cx).is_ready() && lame_duck_over {
            return Poll::Ready(Happened::Drained);
        }
        if self.report.poll_at(self.next_report, cx) {
            self.next_report = self.next_report + REPORT_EVERY;
            return Poll::Ready(Happened::TimeToReport);
        }
        Poll::Pending
    }

    fn handle_signal(&mut self, signal: Signal) {
        let now = self.front.world.now();
        self.interrupts += u32::from(signal == Signal::Int);
        if let Some((first, since)) = self.signal.zip(self.drain.signal()) {
            if self.interrupts == 2 {
                tracing::warn!(connections = self.front.registry.connections(), "second SIGINT: the wall falls now");
                self.drain.handle_wall(now);
                return self.front.lifecycle.change(Lifecycle::Draining { since, wall: Some(now) });
            }
            return tracing::info!(%signal, %first, "signal ignored: the drain is under way");
        }
        self.signal = Some(signal);
        self.drain.handle_signal(now);
        self.next_report = now + REPORT_EVERY;
        self.connections_at_signal = self.front.registry.connections();
        self.front.registry.reset_tally();
        // Everything above is settled before any other task learns of the drain.
        self.front.lifecycle.change(Lifecycle::Draining { since: now, wall: None });
        let rules = &self.front.settings;
        tracing::info!(
            %signal,
            policy = %rules.drain_policy,
            connections = self.connections_at_signal,
            lame_duck = %Rounded(rules.lame_duck),
            idle_grace = %Rounded(rules.idle_grace),
            "drain begins"
        );
    }

    fn say_what_it_waits_for(&self) {
        let now = self.front.world.now();
        let mut entries = self.front.registry.entries();
        entries.sort_by_key(|(number, entry)| (entry.since, *number));
        let waiting_for: Vec<String> = entries
            .iter()
            .take(REPORT_AT_MOST)
            .map(|(number, entry)| {
                format!("{} ({number}) {} for {}", entry.who, entry.activity, Rounded(now.since(entry.since)))
            })
            .collect();
        tracing::info!(
            phase = ?self.drain.phase(now),
            draining_for = %Rounded(now.since(self.drain.signal().unwrap_or(now))),
            connections = entries.len(),
            waiting_for = %waiting_for.join(", "),
            "drain waits"
        );
    }

    /// Nothing is left to wait for.
    async fn exit(self) -> Exit {
        // Time spent from here on is the meter's, and bounded like everything else in a drain.
        let deadline = self.front.world.now() + self.front.settings.teardown_budget;
        let flush = self.front.meter.flush();
        if !within(&self.front.world, deadline, flush).await {
            tracing::error!("the meter did not flush within teardown_budget: end records may be lost");
        }
        let tally = self.front.registry.tally();
        let code = if tally.ended_by.contains_key(EndReason::Wall.name()) { EXIT_WALL } else { EXIT_DRAINED };
        self.finish(code, tally).await
    }

    /// SIGQUIT: every session is ended where it stands, and recorded.
    async fn quit(self) -> Exit {
        tracing::warn!(connections = self.front.registry.connections(), "SIGQUIT: exiting at once");
        let tally = self.front.registry.tally();
        self.finish(EXIT_QUIT, tally).await
    }

    async fn finish(self, code: u8, tally: Tally) -> Exit {
        let world = &self.front.world;
        let ended = world.now();
        self.front.lifecycle.change(Lifecycle::Exiting);
        if !within(world, ended + LAST_TASKS, self.front.crew.gone()).await {
            tracing::error!(tasks = self.front.crew.tasks(), "tasks are left at exit");
        }
        let report = self.signal.zip(self.drain.signal()).map(|(signal, started)| DrainReport {
            signal,
            policy: self.front.settings.drain_policy,
            started,
            ended,
            connections_at_signal: self.connections_at_signal,
            ended_by: tally.ended_by,
            refused: tally.refused,
            cancels: tally.cancels,
            last: tally.last,
        });
        if let Some(report) = &report {
            tell(report, code);
        }
        Exit { code, report }
    }
}

/// The drain's whole story in one line.
fn tell(report: &DrainReport, code: u8) {
    let ended_by: Vec<String> = report.ended_by.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let last = report.last.as_ref().map(|last| {
        let held = Rounded(last.at.since(report.started));
        format!("{} ({}) left last, after {held}: {}", last.who, last.session, last.reason)
    });
    tracing::info!(
        code,
        signal = %report.signal,
        policy = %report.policy,
        took = %Rounded(report.ended.since(report.started)),
        connections_at_signal = report.connections_at_signal,
        ended_by = %ended_by.join(", "),
        refused = report.refused,
        cancels = report.cancels,
        last = %last.as_deref().unwrap_or("nobody was here"),
        "drain over"
    );
}

/// Waits for `work`, until `deadline`. Returns whether it was done.
async fn within<W: World>(world: &W, deadline: Time, work: impl Future<Output = ()>) -> bool {
    let mut work = std::pin::pin!(work);
    let mut alarm = Alarm::new(world.clone());
    std::future::poll_fn(|cx| {
        if work.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if alarm.poll_at(deadline, cx) { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}
