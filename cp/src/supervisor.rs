//! The supervisor of the process, from its first order to stop to its end.
//!
//! The one place where the lifecycle changes: signals and orders come in, the registry empties, and the process is over as
//! soon as that is true. What a drain then does to each connection is not decided here but in
//! [`core::drain`](lastcall_core::drain).

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::connection::Front;
use crate::lifecycle::{Cause, Lifecycle, Listening};
use crate::log::RECORD;
use crate::orders::{Answer, Ask, Order};
use crate::records::{DrainReport, Exit, Meter, Rounded};
use crate::registry::NotEnded;
use crate::reload::Reload;
use crate::status::Status;
use lastcall_core::Settings;
use lastcall_core::Time;
use lastcall_core::process::{EXIT_QUIT, Effect, NotRecalled};
use lastcall_core::settings::FLUSH_LIMIT;
use lastcall_world::alarm::{Alarm, within};
use lastcall_world::{Signal, Standing, World};

/// How often a drain says what it waits for.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How long a drain may be silent before whoever looks after the process may take it for hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many connections it names each time, those that wait longest first.
const REPORT_AT_MOST: usize = 10;
/// How long those may take that came when the drain was over: to say what they want, and to be told.
pub(crate) const LATE_LAST: Duration = Duration::from_millis(500);
/// How long the last tasks may take to end, once nothing is left for them to do.
const LAST_TASKS: Duration = Duration::from_secs(1);
/// How long the exit waits for its own last lines, and SIGQUIT for the records of those that it ended. A reader that reads
/// takes them at once.
const LAST_LINES: Duration = Duration::from_millis(200);

/// See the module's text.
pub(crate) struct Supervisor<W: World, M> {
    front: Front<W, M>,
    orders: mpsc::Receiver<Order>,
    reload: Option<Reload>,
    /// Settings that have changed during a drain: they hold if that is taken back.
    fresh: Option<Arc<Settings>>,
    /// For the end of the lame duck, and for the next report.
    lame_duck: Alarm<W>,
    report: Alarm<W>,
    next_report: Time,
}

enum Happened {
    Signal(Signal),
    Order(Order),
    Settings(Settings),
    Drained,
    TimeToReport,
}

impl<W: World, M: Meter> Supervisor<W, M> {
    pub(crate) fn new(front: Front<W, M>, orders: mpsc::Receiver<Order>, reload: Option<Reload>) -> Self {
        Supervisor {
            orders,
            reload,
            fresh: None,
            lame_duck: Alarm::new(front.world.clone()),
            report: Alarm::new(front.world.clone()),
            next_report: Time::EPOCH,
            front,
        }
    }

    pub(crate) async fn run(mut self) -> Exit {
        let world = self.front.world.clone();
        world.tell(Standing::Ready, "serving");
        let mut signals = Box::pin(world.next_signal());
        loop {
            match std::future::poll_fn(|cx| self.poll(signals.as_mut(), cx)).await {
                Happened::Signal(Signal::Quit) => return self.quit().await,
                Happened::Signal(signal @ Signal::Hup) => {
                    // For whoever rotates logs or changes the configuration and expects an effect, too.
                    let certificates = self.front.tls.ask_for_reload().then_some("certificates");
                    let settings = self.reload.as_ref().map(|reload| {
                        reload.ask();
                        "settings"
                    });
                    let reload: Vec<&str> = [settings, certificates].into_iter().flatten().collect();
                    tracing::info!(%signal, reload = reload.join(", "), "signal taken: these are read again");
                    signals = Box::pin(world.next_signal());
                }
                Happened::Signal(signal @ Signal::Other(_)) => {
                    tracing::info!(%signal, "signal ignored");
                    signals = Box::pin(world.next_signal());
                }
                Happened::Signal(signal) => {
                    self.handle_signal(signal);
                    signals = Box::pin(world.next_signal());
                }
                Happened::Order(Order { ask, answer }) => {
                    // Whoever asked may have hung up; it is done all the same.
                    let _ = answer.send(self.handle_order(ask));
                }
                Happened::Settings(settings) => self.handle_settings(settings),
                Happened::TimeToReport => self.say_what_it_waits_for(),
                Happened::Drained => {
                    // One caller at a time takes signals: from here on that is the exit.
                    drop(signals);
                    return self.exit().await;
                }
            }
        }
    }

    fn poll(&mut self, signals: Pin<&mut impl Future<Output = Signal>>, cx: &mut Context<'_>) -> Poll<Happened> {
        if let Poll::Ready(signal) = signals.poll(cx) {
            return Poll::Ready(Happened::Signal(signal));
        }
        if let Poll::Ready(Some(order)) = self.orders.poll_recv(cx) {
            return Poll::Ready(Happened::Order(order));
        }
        if let Some(Poll::Ready(settings)) = self.reload.as_mut().map(|reload| reload.poll(cx)) {
            return Poll::Ready(Happened::Settings(settings));
        }
        let Some(earliest_exit) = self.front.lifecycle.value().drain.earliest_exit() else {
            return Poll::Pending;
        };
        // Wakes this task at the end of the lame duck.
        self.lame_duck.poll_at(earliest_exit, cx);
        if self.front.registry.poll_exit(self.front.world.now(), cx).is_ready() {
            return Poll::Ready(Happened::Drained);
        }
        if self.report.poll_at(self.next_report, cx) {
            self.next_report = self.next_report + REPORT_EVERY;
            return Poll::Ready(Happened::TimeToReport);
        }
        Poll::Pending
    }

    fn handle_settings(&mut self, settings: Settings) {
        self.fresh = Some(Arc::new(settings));
        if !self.take_fresh() {
            tracing::warn!("the drain goes by the settings with which it began");
        }
    }

    /// Whether the settings that have changed, if any, hold from now on.
    fn take_fresh(&mut self) -> bool {
        let Some(settings) = self.fresh.take() else { return true };
        let taken = self.front.registry.settings(settings.clone());
        if taken {
            let lifecycle = self.front.lifecycle.value();
            self.front.lifecycle.change(Lifecycle { drain: self.front.registry.drain(), ..lifecycle });
        } else {
            self.fresh = Some(settings);
        }
        taken
    }

    fn handle_signal(&mut self, signal: Signal) {
        let now = self.front.world.now();
        let effect = self.front.registry.order(|process| match signal {
            Signal::Int => process.handle_interrupt(now),
            _ => process.handle_term(now),
        });
        let lifecycle = self.front.lifecycle.value();
        match effect {
            Effect::Begun => return self.begun(Cause::Signal(signal)),
            Effect::WallNow => {
                tracing::warn!(connections = self.front.registry.connections(), "second SIGINT: the wall falls now");
            }
            Effect::Kept => tracing::info!(%signal, "the drain by request can't be taken back any more"),
            _ => {
                let first = lifecycle.signal.unwrap_or(signal);
                return tracing::info!(%signal, %first, "signal ignored: the drain is under way");
            }
        }
        let signal = lifecycle.signal.or(Some(signal));
        self.front.lifecycle.change(Lifecycle { drain: self.front.registry.drain(), signal, ..lifecycle });
        self.tell_how_it_stands();
    }

    fn handle_order(&mut self, ask: Ask) -> Answer {
        let now = self.front.world.now();
        let lifecycle = self.front.lifecycle.value();
        match ask {
            Ask::Begin if self.front.registry.order(|process| process.handle_request(now)) == Effect::Begun => {
                self.begun(Cause::Request);
                Answer::Begun
            }
            Ask::Begin => Answer::UnderWay,
            Ask::End(session) => self.end_session(session),
            Ask::Recall if lifecycle.listening != Listening::Here => Answer::HandedOver,
            Ask::Recall => self.recall(),
            Ask::HandOver => {
                self.front.lifecycle.change(Lifecycle { listening: Listening::Lent, ..lifecycle });
                if self.front.registry.order(|process| process.handle_request(now)) == Effect::Begun {
                    self.begun(Cause::Handover);
                }
                Answer::Begun
            }
            Ask::TakeBack => {
                let cause = lifecycle.cause;
                self.front.lifecycle.change(Lifecycle { listening: Listening::Here, ..lifecycle });
                if cause == Some(Cause::Handover) { self.recall() } else { Answer::UnderWay }
            }
            Ask::Settle => {
                self.front.lifecycle.change(Lifecycle { listening: Listening::Left, ..lifecycle });
                Answer::HandedOver
            }
        }
    }

    fn recall(&mut self) -> Answer {
        let now = self.front.world.now();
        let lifecycle = self.front.lifecycle.value();
        match self.front.registry.recall() {
            Err(NotRecalled::NoDrain) => Answer::NoDrain,
            Err(NotRecalled::Signalled) => Answer::Signalled(lifecycle.signal.unwrap_or(Signal::Term)),
            Err(_) => Answer::Deaf,
            Ok(()) => {
                let lasted = now.since(lifecycle.drain.signal().unwrap_or(now));
                tracing::info!(
                    lasted = %Rounded(lasted),
                    connections = self.front.registry.connections(),
                    "drain taken back"
                );
                self.front.lifecycle.change(Lifecycle { drain: self.front.registry.drain(), cause: None, ..lifecycle });
                self.take_fresh();
                self.front.world.tell(Standing::Ready, "serving");
                Answer::Recalled
            }
        }
    }

    fn end_session(&self, session: u32) -> Answer {
        match self.front.registry.end(session) {
            Err(NotEnded::NotHere) => Answer::NotHere,
            Err(NotEnded::Ending) => Answer::EndsAlready,
            Ok(()) => {
                tracing::info!(session, "an administrator ends this session");
                Answer::Ended
            }
        }
    }

    fn begun(&mut self, cause: Cause) {
        let connections = self.front.registry.here();
        self.next_report = self.front.world.now() + REPORT_EVERY;
        let lifecycle = self.front.lifecycle.value();
        // Everything above is settled before any other task learns of the drain.
        self.front.lifecycle.change(Lifecycle {
            drain: self.front.registry.drain(),
            cause: Some(cause),
            signal: if let Cause::Signal(signal) = cause { Some(signal) } else { None },
            ..lifecycle
        });
        let drain = self.front.registry.drain();
        let rules = drain.settings();
        tracing::info!(
            %cause,
            policy = %rules.drain_policy,
            connections,
            lame_duck = %Rounded(rules.lame_duck),
            idle_grace = %Rounded(rules.idle_grace),
            "drain begins"
        );
        self.tell_how_it_stands();
    }

    /// To whoever looks after the process: it is not to be killed while it drains.
    fn tell_how_it_stands(&self) {
        let connections = self.front.registry.connections();
        let status = format!("draining, connections: {connections}");
        let standing = match self.front.lifecycle.value().signal {
            Some(_) => Standing::Stopping { patience: PATIENCE },
            None => Standing::Draining,
        };
        self.front.world.tell(standing, &status);
    }

    fn say_what_it_waits_for(&self) {
        self.tell_how_it_stands();
        // It looks at every connection.
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let now = self.front.world.now();
        let lifecycle = self.front.lifecycle.value();
        let status = Status::new(&lifecycle, &self.front.registry, now, REPORT_AT_MOST);
        tracing::info!(
            phase = %lifecycle.drain.phase(now).name(),
            draining_for = %Rounded(now.since(lifecycle.drain.signal().unwrap_or(now))),
            connections = status.connections,
            waiting_for = %status.in_one_line(),
            "drain waits"
        );
    }

    /// Nothing is left to wait for.
    async fn exit(mut self) -> Exit {
        // From here on nothing is taken back: whoever asks is told so.
        self.orders.close();
        while self.orders.try_recv().is_ok() {}
        self.front.lifecycle.change(Lifecycle { closing: true, ..self.front.lifecycle.value() });
        let ended = self.front.world.now();
        // Bounded like everything else in a drain: whoever takes the records may take nothing any more, and late clients may
        // not read what they are told.
        let flush = within(&self.front.world, ended + FLUSH_LIMIT, self.front.meter.flush());
        let told = within(&self.front.world, ended + LATE_LAST, self.front.late.gone());
        let last = async {
            let flushed = flush.await;
            let _ = told.await;
            flushed
        };
        match unless_quit(&self.front.world, last).await {
            None => return self.quit().await,
            Some(None) => tracing::error!(limit = %Rounded(FLUSH_LIMIT), "the meter did not flush in time"),
            Some(Some(())) => {}
        }
        let code = self.front.registry.exit_code();
        end_tasks(&self.front).await;
        self.report(code, ended).await
    }

    /// SIGQUIT: every session is ended where it stands, and recorded.
    async fn quit(mut self) -> Exit {
        // Whoever still asks something is told that the process exits.
        self.orders.close();
        while self.orders.try_recv().is_ok() {}
        tracing::warn!(connections = self.front.registry.connections(), "SIGQUIT: exiting at once");
        let ended = self.front.world.now();
        end_tasks(&self.front).await;
        self.report(EXIT_QUIT, ended).await
    }

    /// Tells the drain's story, and gives what is still to be written a moment.
    async fn report(self, code: u8, ended: Time) -> Exit {
        let report = self.drain_report(ended);
        match &report {
            Some(report) => tell(report, code),
            None => {
                let lost = self.front.meter.lost();
                tracing::info!(
                    target: RECORD,
                    code,
                    lost_lines = lost.lines,
                    lost_records = lost.records,
                    "exit without a drain"
                );
            }
        }
        let deadline = self.front.world.now() + LAST_LINES;
        // Who doesn't read by now will not read that it was not read.
        let _ = within(&self.front.world, deadline, self.front.meter.flush()).await;
        Exit { code, report }
    }

    fn drain_report(&self, ended: Time) -> Option<DrainReport> {
        let tally = self.front.registry.tally();
        let Lifecycle { drain, cause, .. } = self.front.lifecycle.value();
        Some(DrainReport {
            cause: cause?,
            policy: drain.settings().drain_policy,
            started: drain.signal()?,
            ended,
            connections_at_signal: tally.here,
            connections_since: tally.came,
            ended_by: tally.ended_by,
            refused: tally.refused,
            cancels: tally.cancels,
            lost: self.front.meter.lost(),
            last: tally.last,
        })
    }
}

/// Does the last of the work, unless SIGQUIT comes first. Other signals change nothing any more.
async fn unless_quit<W: World, T>(world: &W, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    loop {
        let mut signals = pin!(world.next_signal());
        let happened = std::future::poll_fn(|cx| match signals.as_mut().poll(cx) {
            Poll::Ready(signal) => Poll::Ready(Err(signal)),
            Poll::Pending => work.as_mut().poll(cx).map(Ok),
        });
        match happened.await {
            Ok(done) => return Some(done),
            Err(Signal::Quit) => return None,
            Err(signal) => tracing::info!(%signal, "signal ignored: the process is exiting"),
        }
    }
}

async fn end_tasks<W: World, M: Meter>(front: &Front<W, M>) {
    front.lifecycle.change(Lifecycle { exiting: true, ..front.lifecycle.value() });
    let gone = async {
        front.tasks.gone().await;
        front.late.gone().await;
    };
    if within(&front.world, front.world.now() + LAST_TASKS, gone).await.is_none() {
        tracing::error!(tasks = front.tasks.count() + front.late.count(), "tasks are left at exit");
    }
}

/// The drain's whole story in one line.
fn tell(report: &DrainReport, code: u8) {
    let ended_by: Vec<String> = report.ended_by.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let last = report.last.as_ref().map(|last| {
        let held = Rounded(last.at.since(report.started));
        format!("{:?} ({}) left last, after {held}: {}", last.who, last.session, last.reason)
    });
    tracing::info!(
        target: RECORD,
        code,
        cause = %report.cause,
        policy = %report.policy,
        took = %Rounded(report.ended.since(report.started)),
        connections_at_signal = report.connections_at_signal,
        connections_since = report.connections_since,
        ended_by = %ended_by.join(", "),
        refused = report.refused,
        cancels = report.cancels,
        lost_lines = report.lost.lines,
        lost_records = report.lost.records,
        last = %last.as_deref().unwrap_or("nobody was here"),
        "drain over"
    );
}
