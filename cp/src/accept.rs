//! The process: it listens, and when it is told to stop it drains.
//!
//! [`serve`] starts the listeners and then does nothing but watch over the drain. The drain's rules are in
//! [`core::drain`](lastcall_core::drain); each connection applies them to itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::admin;
use crate::admin::drain::{Admin, Token};
use crate::cancel::Cancels;
use crate::connection::{Front, Shared};
use crate::lifecycle::Lifecycle;
use crate::orders::orders;
use crate::pending::Pending;
use crate::records::{Exit, Meter};
use crate::registry::Registry;
use crate::session;
use crate::supervisor::Supervisor;
use crate::throttle::Throttle;
use crate::tls::Tls;
use crate::workers::Workers;
use lastcall_core::{DrainPolicy, Settings, Time};
use lastcall_world::alarm::Alarm;
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
#[derive(Clone, Debug)]
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

/// Serves until a signal or a request, drains, and says how that went.
///
/// # Errors
/// [`ServeError`] if it can't listen. Later trouble with single connections ends these and is logged.
pub async fn serve<W: World, M: Meter>(world: W, service: Service, meter: M) -> Result<Exit, ServeError> {
    let listener = bind(&world, "listen", &service.listen).await?;
    let admin = match &service.admin {
        Some(address) => Some(bind(&world, "admin", address).await?),
        None => None,
    };
    let settings = Arc::new(service.settings);
    let registry = Registry::new(settings.clone(), world.random("pace") as u32);
    let front = Arc::new(Shared {
        meter,
        workers: Arc::new(Workers::new(service.workers)),
        tls: service.tls,
        lifecycle: Watched::new(Lifecycle::serving(registry.drain())),
        registry,
        world,
        settings,
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
        policy = %front.settings.drain_policy,
        "serving"
    );
    let accept = Accept {
        front: front.clone(),
        listener,
        lifecycle: front.lifecycle.subscribe(),
        pause: None,
        alarm: Alarm::new(front.world.clone()),
    };
    front.late.spawn(&front.world, "accept", accept.run());
    let (orders, taken) = orders();
    if let Some(listener) = admin {
        let Shared { world, registry, lifecycle, tasks, meter, .. } = &*front;
        let (world, registry, lifecycle, meter) = (world.clone(), registry.clone(), lifecycle.clone(), meter.clone());
        let lost = std::sync::Arc::new(move || meter.lost());
        admin::spawn(tasks, listener, Admin { world, registry, lifecycle, orders, token: service.token, lost });
    }
    Ok(Supervisor::new(front, taken).run().await)
}

async fn bind<W: World>(world: &W, flag: &'static str, address: &str) -> Result<W::Listener, ServeError> {
    let bound = world.bind(address).await;
    bound.map_err(|source| ServeError::Bind { flag, address: address.to_owned(), source })
}

/// A session has two file descriptors: its client's connection and its worker's.
fn warn_of_few_descriptors<W: World, M>(front: &Front<W, M>) {
    let (spare, max_connections) = (front.world.spare_descriptors(), front.settings.max_connections as usize);
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
            // Both old policies stop listening at the signal: that nobody can cancel any more is part of what was wrong.
            let deaf = self.front.settings.drain_policy != DrainPolicy::IdleAware;
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
