//! One client: its place in the drain, and the messages that pass between it and the worker that it has.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::sync::Arc;

use lastcall_core::session::FLUSH;
use lastcall_core::startup::Packet;
use lastcall_core::wire::{CancelKey, Side};
use lastcall_core::{Drain, EndReason, Session, Time, Verdict};
use tokio::select;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::link::Link;
use crate::pool::{Keys, Pool, Worker, login, message};

/// A client's place in the drain.
pub(crate) struct Seat {
    pub(crate) pool: Arc<Pool>,
    pub(crate) number: Option<u32>,
    pub(crate) session: Session,
    pub(crate) drains: watch::Receiver<Drain>,
    /// The sockets were looked at since the verdict.
    pub(crate) looked: bool,
}

/// A client, and the worker that it has.
pub(crate) struct Links {
    pub(crate) client: Link,
    pub(crate) worker: Option<Worker>,
    pub(crate) login: Vec<u8>,
}

impl Seat {
    pub(crate) async fn relay(mut self, mut links: Links, key: [u8; 8]) {
        let (pool, number) = (self.pool.clone(), self.number);
        let Err(reason) = self.serve(&mut links, key).await;
        if let Some(key) = self.worker_key().filter(|_| self.session.worker_runs()) {
            pool.clone().cancel(key).await;
        }
        // In the middle of a transaction a worker is of no use to others.
        let Links { mut client, worker, .. } = links;
        drop(worker);
        let (drain, now) = self.look();
        number.inspect(|number| pool.process().handle_decided(*number, reason));
        self.session.close(reason, &drain, now);
        client.out.extend(self.session.farewell(&pool.worker).iter().flat_map(|fatal| fatal.encode()));
        let limit = drain.farewell_deadline(now).since(now);
        let _ = timeout(limit, client.goodbye(drain.settings().close_linger)).await;
        drop(client);
        number.and_then(|number| pool.process().handle_gone(number));
        pool.left.notify_one();
    }

    /// Serves the client until its session is over.
    async fn serve(&mut self, links: &mut Links, key: [u8; 8]) -> Result<Infallible, EndReason> {
        let packet = match self.unless_over(links.client.open()).await? {
            Ok(Packet::Startup(packet)) => packet,
            Ok(Packet::Cancel(asked)) => {
                self.number.inspect(|number| self.pool.process().handle_cancel_request(*number));
                let runs = self.pool.whom(&asked);
                if let Some(key) = runs {
                    self.pool.clone().cancel(key).await;
                }
                return Err(EndReason::ClientClosed);
            }
            Ok(_) => return Err(EndReason::Malformed),
            Err(_) => return Err(EndReason::ClientClosed),
        };
        links.login = login(&packet).map_err(|_| EndReason::Malformed)?;
        let (drain, now) = self.look();
        self.session.handle_startup(&drain, now);
        let late = Err(EndReason::ShuttingDown);
        self.number.map_or(late, |number| self.pool.process().handle_startup(number, now))?;
        let mut greeting = self.acquire(links).await?;
        greeting.extend([message(b'K', &key), message(b'Z', b"I")].concat());
        self.hear(&greeting, &mut links.client);
        loop {
            while let Some(worker) = &mut links.worker
                && let Some(message) = worker.link.message().map_err(|_| EndReason::WorkerMalformed)?
            {
                self.hear(message, &mut links.client);
                worker.link.pass();
            }
            if let Some(worker) = links.worker.take_if(|_| !self.session.needs_worker()) {
                self.keys(|keys| keys.worker = None);
                self.pool.give_back(worker);
            }
            let is_held = self.ask(links).await?;
            let (side, moved) = self.unless_over(links.exchange(is_held)).await?;
            let (drain, now) = self.look();
            match (side, moved, &links.worker) {
                (Side::Frontend, Ok(written), _) => {
                    self.session.handle_output(written, links.client.out.len(), &drain, now);
                }
                (Side::Frontend, Err(_), _) => self.session.handle_client_gone(EndReason::ClientReset),
                (Side::Backend, Ok(_), Some(worker)) if !worker.link.ended => {
                    self.session.handle_input(worker.link.out.len(), &drain, now);
                }
                (Side::Backend, ..) => self.session.handle_worker_gone(),
            }
            if links.client.ended {
                self.session.handle_client_left(now);
                self.session.handle_client_gone(EndReason::ClientClosed);
            }
        }
    }

    /// What the client asks goes to its worker; for the first message of a transaction one is taken. Returns whether some of it
    /// has to wait.
    async fn ask(&mut self, links: &mut Links) -> Result<bool, EndReason> {
        let is_held = loop {
            let kind = match links.client.message() {
                Ok(Some(message)) => message[0],
                Ok(None) => break false,
                Err(malformed) => {
                    self.session.handle_malformed(malformed);
                    break true;
                }
            };
            if links.worker.is_none() && kind != b'X' {
                // Its last answer goes first: nothing moves in the queue.
                if !links.client.out.is_empty() {
                    break true;
                }
                let (drain, now) = self.look();
                self.session.handle_worker_wanted(&drain, now);
                self.acquire(links).await?;
            }
            let ((drain, now), client) = (self.look(), &mut links.client);
            if !self.session.handle_client_message(&client.input[..client.seen], &drain, now) {
                break true;
            }
            let message = client.pass();
            // The worker is not the client's to end.
            if let Some(worker) = links.worker.as_mut().filter(|_| kind != b'X') {
                worker.link.out.extend(message);
            }
        };
        if let Some(worker) = &mut links.worker
            && self.session.take_flush(&self.look().0)
        {
            worker.link.out.extend(FLUSH);
        }
        Ok(is_held)
    }

    /// Waits for a worker. Returns what it greets with.
    async fn acquire(&mut self, links: &mut Links) -> Result<Vec<u8>, EndReason> {
        let pool = self.pool.clone();
        let found = self.unless_over(pool.worker(&links.login)).await?;
        let (drain, now) = self.look();
        match found {
            Ok(found) => {
                self.session.handle_worker_found(&drain, now);
                self.keys(|keys| keys.worker = Some(found.key.clone()));
                Ok(links.worker.insert(found).greeting.clone())
            }
            Err(words) if words.is_empty() => Err(EndReason::WorkerUnreachable),
            Err(words) => {
                self.session.handle_worker_found(&drain, now);
                self.hear(&words, &mut links.client);
                Err(EndReason::LoginFailed)
            }
        }
    }

    /// This is said to the client, by whomever.
    fn hear(&mut self, words: &[u8], client: &mut Link) {
        let (drain, now) = self.look();
        let observed = self.session.handle_worker(words, &drain, now);
        client.out.extend_from_slice(&words[..observed]);
    }

    /// Waits for this, unless the session is over before.
    async fn unless_over<T>(&mut self, work: impl Future<Output = T>) -> Result<T, EndReason> {
        let mut work = pin!(work);
        loop {
            let (drain, now) = self.look();
            match self.session.poll_verdict(&drain, now) {
                Verdict::LookNow => {
                    self.session.handle_look(0, &drain, now);
                    continue;
                }
                // Once more: what has arrived in time counts.
                Verdict::CancelNow | Verdict::CloseNow(_) if !std::mem::replace(&mut self.looked, true) => {}
                Verdict::CancelNow => {
                    self.session.handle_cancelled(&drain, now);
                    self.worker_key().map(|key| tokio::spawn(self.pool.clone().cancel(key)));
                    continue;
                }
                Verdict::CloseNow(reason) => return Err(reason),
                _ => self.looked = false,
            }
            let at = self.session.next_timeout(&drain, now);
            select! {
                biased;
                done = &mut work => return Ok(done),
                _ = self.drains.changed() => {}
                () = self.pool.until(at) => {}
            }
        }
    }

    fn look(&self) -> (Drain, Time) {
        (self.drains.borrow().clone(), self.pool.now())
    }

    fn keys<T>(&self, with: impl FnOnce(&mut Keys) -> T) -> Option<T> {
        self.pool.process().member_mut(self.number?).map(|member| with(&mut member.data))
    }

    fn worker_key(&self) -> Option<Arc<CancelKey>> {
        self.keys(|keys| keys.worker.clone())?
    }
}

impl Links {
    /// Moves something between the two, and says on whose socket, and how many bytes that took. A side is read when what it
    /// said before is on its way, and none of it `is_held`.
    async fn exchange(&mut self, is_held: bool) -> (Side, io::Result<usize>) {
        let has_room = self.client.out.is_empty();
        let reads = !is_held && self.worker.as_ref().is_none_or(|worker| worker.link.out.is_empty());
        let worker = async {
            match &mut self.worker {
                Some(worker) => worker.link.step(has_room).await,
                None => pending().await,
            }
        };
        select! {
            biased;
            moved = worker => (Side::Backend, moved),
            moved = self.client.step(reads) => (Side::Frontend, moved),
        }
    }
}
