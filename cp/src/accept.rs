//! The process: it listens, and when it is told to stop it drains.
//!
//! [`serve`] starts the listeners and then does nothing but watch over the drain. The drain's rules are in
//! [`core::drain`](lastcall_core::drain); each connection applies them to itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::admin;
use crate::admin::drain::Admin;
use crate::admin::guard::Token;
use crate::cancel::Cancels;
use crate::connection::{Front, Shared};
use crate::handover::{self, HandoverError, Leaving};
use crate::lifecycle::{Lifecycle, Listening};
use crate::orders::orders;
use crate::pending::Pending;
use crate::records::{Exit, Meter};
use crate::registry::Registry;
use crate::reload::Reload;
use crate::session;
use crate::supervisor::Supervisor;
use crate::throttle::Throttle;
use crate::tls::Tls;
use crate::workers::Workers;
use lastcall_core::{DrainPolicy, Settings, Time};
use lastcall_world::alarm::Alarm;
use lastcall_world::handover::{Handover, Line};
use lastcall_world::tasks::Tasks;
use lastcall_world::watched::{Watched, Watcher};
use lastcall_world::{Listener, World};

/// Connections that have not said what they want, or linger over their refusal. One more, and the oldest goes.
const CROWD: usize = 1024;
/// File descriptors that sessions leave to others: connections that have not said what they want, cancel requests, probes.
pub(crate) const KEPT_BACK: usize = 64;
/// Those of them that the former leave to the latter: for each cancel request that is passed on its own connection and one to
/// a worker.
const FOR_CANCELS: usize = 32;
/// Connections accepted in one go, before their tasks have a turn.
const BURST: usize = 32;
/// Pause after the kernel refused to accept: what it lacks (file descriptors, memory) won't be back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the process listens, for whom it stands, and by which rules.
#[derive(Debug)]
pub struct Service {
    /// Address for clients, `host:port`.
    pub listen: String,
    /// Addresses of the workers, `host:port`: any servers that speak the PostgreSQL protocol. One is enough.
    pub workers: Vec<String>,
    /// Address for the probes and `/drain` over HTTP; none for none.
    pub admin: Option<String>,
    /// What whoever changes something over the admin port must know; none for nothing.
    pub token: Option<Token>,
    /// Encryption, towards clients and the worker.
    pub tls: Arc<Tls>,
    /// The rules.
    pub settings: Settings,
    /// Whoever reads them again; none for nobody.
    pub reload: Option<Reload>,
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
    /// The process before this one has not left its sockets: it serves on.
    #[error("cannot take over: {0}")]
    Handover(#[from] HandoverError),
    /// The next process could not take over from this one.
    #[error("cannot wait for the next process at --handover-socket: {0}")]
    Meeting(io::Error),
}

/// Serves until a signal or a request, drains, and says how that went.
///
/// # Errors
/// [`ServeError`] if it can't listen. Later trouble with single connections ends these and is logged.
pub async fn serve<W: World, M: Meter>(
    world: W,
    service: Service,
    meter: M,
    mut handover: impl Handover<W::Listener>,
) -> Result<Exit, ServeError> {
    let listener = match inherit(&mut handover, "listen")? {
        Some(listener) => listener,
        None => bind(&world, &mut handover, "listen", &service.listen).await?,
    };
    let admin_listener = match (inherit(&mut handover, "admin")?, &service.admin) {
        (None, Some(address)) => Some(bind(&world, &mut handover, "admin", address).await?),
        (inherited, _) => inherited,
    };
    let mut before = handover.predecessor();
    let legacy = match &mut before {
        Some(line) => handover::take_over(&world, line).await?,
        None => handover::Legacy::default(),
    };
    handover.open().map_err(ServeError::Meeting)?;
    let settings = Arc::new(service.settings);
    let registry = Registry::new(settings, world.random("pace") as u32);
    let front = Arc::new(Shared {
        meter,
        workers: Arc::new(Workers::new(service.workers, legacy.workers)),
        tls: service.tls,
        lifecycle: Watched::new(Lifecycle::serving(registry.drain())),
        registry,
        world,
        tasks: Tasks::default(),
        throttle: Throttle::default(),
        late: Tasks::default(),
        pending: Pending::with_limit(CROWD),
        cancels: Cancels::default(),
    });
    warn_of_few_descriptors(&front);
    tracing::info!(
        listen = listener.local_addr().map(tracing::field::display).ok(),
        worker = front.workers.names(),
        policy = %front.drain().settings().drain_policy,
        "serving"
    );
    if let Some(line) = before {
        tracing::info!(before = line.peer(), admin = legacy.admin, "took over; the process before this one drains");
        front.late.spawn(&front.world, "before", handover::hold(front.clone(), line));
    }
    let accept = Accept {
        front: front.clone(),
        listener,
        lifecycle: front.lifecycle.subscribe(),
        pause: None,
        alarm: Alarm::new(front.world.clone()),
    };
    front.late.spawn(&front.world, "accept", accept.run());
    let (orders, taken) = orders();
    let admin = admin_listener.map(|listener| {
        let host = listener.local_addr().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
        let Shared { world, registry, lifecycle, tasks, meter, .. } = &*front;
        let (world, registry, lifecycle, meter) = (world.clone(), registry.clone(), lifecycle.clone(), meter.clone());
        let lost = std::sync::Arc::new(move || meter.lost());
        let orders = orders.clone();
        let admin = Admin { world, registry, lifecycle, orders, token: service.token, lost };
        admin::spawn(tasks, listener, admin.clone(), admin::Port::Passed);
        (host, admin)
    });
    let leaving = Leaving { front: front.clone(), handover, orders, admin };
    front.late.spawn(&front.world, "handover", leaving.run());
    Ok(Supervisor::new(front, taken, service.reload).run().await)
}

/// The socket that was left to this process; the next one is left it too.
fn inherit<L>(handover: &mut impl Handover<L>, flag: &'static str) -> Result<Option<L>, ServeError> {
    let Some(listener) = handover.inherited(flag) else { return Ok(None) };
    let kept = handover.keep(flag, &listener);
    kept.map_err(|source| ServeError::Bind { flag, address: "a socket that was passed on".to_owned(), source })?;
    Ok(Some(listener))
}

/// Listens at an address of its own; the next process is left that.
async fn bind<W: World>(
    world: &W,
    handover: &mut impl Handover<W::Listener>,
    flag: &'static str,
    address: &str,
) -> Result<W::Listener, ServeError> {
    let bound = world.bind(address).await;
    let kept = bound.and_then(|listener| handover.keep(flag, &listener).map(|()| listener));
    kept.map_err(|source| ServeError::Bind { flag, address: address.to_owned(), source })
}

/// A session has two file descriptors: its client's connection and its worker's.
fn warn_of_few_descriptors<W: World, M>(front: &Front<W, M>) {
    let (spare, max_connections) = (front.world.spare_descriptors(), front.drain().settings().max_connections as usize);
    let lacking = (2 * max_connections + KEPT_BACK).saturating_sub(spare);
    if lacking > 0 {
        tracing::warn!(
            max_connections,
            sessions = spare.saturating_sub(KEPT_BACK) / 2,
            lacking,
            "file descriptors are too few for max_connections: further sessions will be refused with 53300; raise the hard \
             limit on open files by what is lacking (ulimit -Hn, LimitNOFILE=), or lower max_connections"
        );
    }
}

/// Accepts connections, each into its own task.
struct Accept<W: World, M> {
    front: Front<W, M>,
    listener: W::Listener,
    lifecycle: Watcher<Lifecycle>,
    pause: Option<Time>,
    alarm: Alarm<W>,
}

impl<W: World, M: Meter> Accept<W, M> {
    async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..BURST {
            while self.lifecycle.poll_changed(cx).is_ready() {}
            let lifecycle = self.lifecycle.value();
            if lifecycle.exiting {
                return Poll::Ready(());
            }
            match lifecycle.listening {
                Listening::Here => {}
                // Whoever is in the queue is the next process's.
                Listening::Lent if !lifecycle.closing => return Poll::Pending,
                _ => return Poll::Ready(()),
            }
            // Both old policies stop listening at the signal: that nobody can cancel any more is part of what was wrong.
            let deaf = lifecycle.drain.settings().drain_policy != DrainPolicy::IdleAware;
            if deaf && lifecycle.drain.signal().is_some() {
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
                    // Whatever it lacks: those who only stand there may give some of it back.
                    let closed = self.front.pending.thin(BURST);
                    tracing::warn!(%error, closed, "cannot accept a connection; those that have been silent longest are closed");
                    self.pause = Some(self.front.world.now() + ACCEPT_PAUSE);
                }
                // Whoever came in time has been let in.
                Poll::Pending if lifecycle.closing => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn admit(&self, stream: W::Stream, peer: SocketAddr) {
        let Shared { world, registry, tasks, late, pending, .. } = &*self.front;
        if world.spare_descriptors() < FOR_CANCELS {
            pending.thin(1);
        }
        let (stand, now) = (pending.enter(), world.now());
        if let Some(slot) = registry.enter(peer, now) {
            // In the same step in which it was accepted: whoever counts from here on counts it.
            let front = self.front.clone();
            tasks.spawn_with(world, "session", stream, |stream| session::serve(front, stream, slot, stand));
        } else {
            let front = self.front.clone();
            late.spawn_with(world, "late", stream, |stream| session::refuse(front, stream, peer, stand));
        }
    }
}
