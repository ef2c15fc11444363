//! A whole drain-aware proxy in front of PostgreSQL, with a loop of its own:
//! `cargo run -p lastcall-core --example tokio -- 127.0.0.1:6432 127.0.0.1:5432 idle_grace=10s`
//!
//! Written against `lastcall-world`, so the simulator runs it too. No TLS, no log, no records, no probes; a worker is asked once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use lastcall_core::connection::Next;
use lastcall_core::process::EXIT_QUIT;
use lastcall_core::startup::Packet;
use lastcall_core::wire::CancelKey;
use lastcall_core::{Connection, Drain, EndReason, Process, Settings};
use lastcall_world::{
    Listener, Signal, Tcp, TokioWorld, World, alarm::Alarm, pair::Pair, peer::Peer, watched::Watched,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Proxy<W> {
    world: W,
    worker: String,
    process: Mutex<Process<()>>,
    drain: Watched<Drain>,
    left: Watched<()>,
}

/// Serves until it has drained, and returns the exit code.
pub async fn serve<W: World>(world: W, listen: &str, worker: &str, settings: Settings) -> std::io::Result<u8> {
    let mut listener = world.bind(listen).await?;
    let process = Process::new(Arc::new(settings), world.random("pace") as u32);
    let (drain, left, mut alarm) = (process.drain().clone(), Watched::new(()), Alarm::new(world.clone()));
    let (process, drain, worker) = (Mutex::new(process), Watched::new(drain), worker.to_owned());
    let proxy = Arc::new(Proxy { world, worker, process, drain, left });
    let (mut left, mut signals) = (proxy.left.subscribe(), Box::pin(proxy.world.next_signal()));
    poll_fn(|cx| {
        loop {
            let (now, mut process) = (proxy.world.now(), proxy.process());
            if let Poll::Ready(signal) = signals.as_mut().poll(cx) {
                match signal {
                    Signal::Quit => return Poll::Ready(Ok(EXIT_QUIT)),
                    Signal::Term => _ = process.handle_term(now),
                    Signal::Int => _ = process.handle_interrupt(now),
                    Signal::Hup | Signal::Other(_) => {}
                }
                proxy.drain.change(process.drain().clone());
                signals.set(proxy.world.next_signal());
            } else if let Poll::Ready(Ok((client, _))) = listener.poll_accept(cx) {
                // Counted in the same step. One that comes too late has no number.
                let (number, pace) = process.handle_accepted((), now).map(|one| (one.number, one.pace)).unzip();
                let connection = Connection::new(pace.unwrap_or_default(), process.drain(), now);
                proxy.world.spawn("connection", proxy.clone().relay(client, number, connection));
            } else if left.poll_changed(cx).is_pending() {
                let exit = process.poll_exit(now).map(|code| Poll::Ready(Ok(code)));
                match process.next_timeout() {
                    Some(at) if exit.is_none() && at > now && alarm.poll_at(at, cx) => {}
                    _ => return exit.unwrap_or(Poll::Pending),
                }
            }
        }
    })
    .await
}

impl<W: World> Proxy<W> {
    async fn relay(self: Arc<Self>, client: W::Stream, number: Option<u32>, mut it: Connection) {
        let (mut drains, mut alarm) = (self.drain.subscribe(), Alarm::new(self.world.clone()));
        let mut connecting: Option<Pin<Box<dyn Future<Output = _> + Send>>> = None;
        let (client, mut worker) = (&mut Peer::new(client), None);
        let key = poll_fn(|cx| {
            loop {
                while drains.poll_changed(cx).is_ready() {}
                let (drain, now, mut over) = (drains.value(), self.world.now(), None);
                if let Some(Poll::Ready(found)) = connecting.as_mut().map(|found| found.as_mut().poll(cx)) {
                    connecting = None;
                    match found {
                        Ok(found) => (worker, _) = (Some(Peer::new(found)), it.handle_worker_found(drain, now)),
                        Err(_) => over = Some(EndReason::WorkerUnreachable),
                    }
                }
                match it.drive(&mut Pair { client, worker: worker.as_mut(), cx }, drain, now) {
                    Next::Opened(Packet::Startup(packet)) => {
                        let (proxy, late) = (self.clone(), Err(EndReason::ShuttingDown));
                        it.handle_startup(packet, drain, now);
                        over = number.map_or(late, |number| self.process().handle_startup(number, now)).err();
                        connecting = Some(Box::pin(async move { proxy.world.connect(&proxy.worker).await }));
                    }
                    Next::Opened(Packet::Cancel(key)) => return Poll::Ready(Some(key)),
                    Next::Opened(_) => over = Some(EndReason::Malformed),
                    Next::Cancel => {
                        number.filter(|_| it.session().was_cut()).inspect(|number| self.process().handle_cut(*number));
                        self.cancel_what_runs(&it);
                    }
                    Next::Close(reason) => over = Some(reason),
                    Next::LetGo => return Poll::Ready(None),
                    Next::Wait(Some(at)) if over.is_some() || alarm.poll_at(at, cx) => {}
                    Next::Wait(_) if over.is_none() => return Poll::Pending,
                    _ => cx.waker().wake_by_ref(),
                }
                if let Some(reason) = over {
                    self.cancel_what_runs(&it);
                    number.inspect(|number| self.process().handle_decided(*number, reason));
                    it.close(reason, &self.worker, drain, now);
                }
            }
        })
        .await;
        if let Some(key) = key {
            number.inspect(|number| self.process().handle_cancel_request(*number));
            self.clone().cancel(key).await;
        }
        number.and_then(|number| self.process().handle_gone(number));
        self.left.change(());
    }

    /// Cancels what the worker still runs.
    fn cancel_what_runs(self: &Arc<Self>, it: &Connection) {
        if let Some(key) = it.session().worker_key().filter(|_| it.session().worker_runs()) {
            self.world.spawn("cancel", self.clone().cancel(key.clone()));
        }
    }

    async fn cancel(self: Arc<Self>, key: CancelKey) {
        let Ok(mut worker) = self.world.connect(&self.worker).await else { return };
        let _ = worker.write_all(&key.request()).await;
        // It closes when it has signalled the session.
        let _ = worker.read(&mut [0]).await;
    }

    fn process(&self) -> MutexGuard<'_, Process<()>> {
        self.process.lock().expect("nothing panics under this lock")
    }
}

#[tokio::main]
async fn main() -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, worker, rest @ ..] = arguments.as_slice() else {
        return Err("LISTEN WORKER [SETTING=VALUE]…".into());
    };
    let mut settings = Settings::default();
    for (name, value) in rest.iter().filter_map(|setting| setting.split_once('=')) {
        settings.set(name, value)?;
    }
    settings.check()?;
    Ok(serve(TokioWorld::new(Tcp::default())?, listen, worker, settings).await?.into())
}
