//! The process: it listens, and when it is told to stop it drains.
//!
//! [`serve`] starts the listeners and then does nothing but watch over the drain. The drain's rules are in
//! [`core::drain`](crate::core::drain); each connection applies them to itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::admin;
use crate::admin::drain::Desk;
use crate::alarm::Alarm;
use crate::connection;
use crate::core::{Drain, DrainPolicy, Settings, Time};
use crate::course::Front;
use crate::crew::Crew;
use crate::lifecycle::Lifecycle;
use crate::meter::{Exit, Meter};
use crate::notice::{Notice, Reader};
use crate::orders::orders;
use crate::registry::Registry;
use crate::throttle::Throttle;
use crate::watch::Watch;
use crate::world::{Listener, World};

/// Connections beyond `max_connections` that may be in their handshake, or wait for their refusal. More are closed at once.
const RESERVE: usize = 1024;
/// Pause after the kernel refused to accept: what it lacks (file descriptors, memory) won't be back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the process listens, for whom it stands, and by which rules.
#[derive(Clone, Debug)]
pub struct Service {
    /// Address for clients, `host:port`.
    pub listen: String,
    /// Address of the worker, `host:port`: any server that speaks the PostgreSQL protocol.
    pub worker: String,
    /// Address for the probes and `/drain` over HTTP; none for none.
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
    let front = Front {
        pace_offset: world.random("pace") as u32,
        world,
        meter,
        worker: service.worker.into(),
        registry: Registry::default(),
        lifecycle: Notice::new(Lifecycle::serving(Drain::new(settings.clone()))),
        settings,
        crew: Crew::default(),
        throttle: Throttle::default(),
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
        lifecycle: front.lifecycle.subscribe(),
        pause: None,
        alarm: Alarm::new(front.world.clone()),
        late: Arc::new(()),
    };
    front.crew.spawn(&front.world, "accept", accept.run());
    let (orders, taken) = orders();
    if let Some(listener) = admin {
        let Front { world, registry, lifecycle, crew, .. } = front.clone();
        admin::spawn(&crew, listener, Desk { world, registry, lifecycle, orders });
    }
    Ok(Watch::new(front, taken).run().await)
}

async fn bind<W: World>(world: &W, flag: &'static str, address: &str) -> Result<W::Listener, ServeError> {
    let bound = world.bind(address).await;
    bound.map_err(|source| ServeError::Bind { flag, address: address.to_owned(), source })
}

/// Accepts connections, each into its own task.
struct Accept<W: World, M> {
    front: Front<W, M>,
    listener: W::Listener,
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
        if self.lifecycle.value().drain.accepts(now) {
            if registry.connections() >= settings.max_connections as usize + RESERVE {
                return tracing::warn!(%peer, "connection closed at once: too many handshakes");
            }
            // In the same step in which it was accepted: whoever counts from here on counts it.
            let place = registry.enter(peer, now);
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
