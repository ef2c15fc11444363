//! Does a client's steps one after the other, and goes on after its connection was closed under it, as a connection pool
//! does.
//!
//! A client without a `reconnect` policy leaves the rest of its steps out. One with a policy waits, connects again as its
//! last `connect` step says, and goes on: a pause lasts to its end, a step that asked for something is done anew, with a
//! new tag, only if it was not executed as far as a client can know, and else is left out. It gives up after `retries`
//! attempts in a row.

use std::future::Future;

use lastcall_core::Time;

use super::script::{Next, Script};
use crate::scenario::model::{Client, Close, Closing, Idle, Patience, Reconnect, Step};

/// One copy of a client: what it can do.
pub(crate) trait Player: Send {
    /// The time now.
    fn now(&self) -> Time;

    /// Lets time pass, with or without a connection. False if that was closed meanwhile.
    fn rest(&mut self, until: Time) -> impl Future<Output = bool> + Send;

    /// Does one step that is no pause and no repetition. False if the client can't go on.
    fn act(&mut self, step: &Step) -> impl Future<Output = bool> + Send;

    /// Stays connected until the connection is closed, if there is one, and reads it to its end.
    fn stay(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether its last connection was closed by the other side, or could not be opened.
    fn is_closed(&self) -> bool;

    /// Whether it was told that its last request was not executed.
    fn was_not_executed(&self) -> bool;
}

/// Does the steps of `client` to their end, and then stays connected until somebody closes the connection.
pub(crate) async fn play<P: Player>(player: &mut P, client: &Client) {
    let mut pool = Pool { policy: client.reconnect.as_ref(), connect: None, failures: 0 };
    let mut script = Script::new(&client.steps, player.now());
    while let Some(next) = script.next(player.now()) {
        let goes_on = match activity(next, player.now()) {
            Activity::Pause(until) => pool.rest(player, until).await,
            Activity::Stay => pool.stay(player).await,
            Activity::Act(step) => pool.act(player, step).await,
        };
        if !goes_on {
            break;
        }
    }
    player.stay().await;
}

/// What a step is for a pool.
enum Activity<'s> {
    Pause(Time),
    /// A pause without end.
    Stay,
    Act(&'s Step),
}

fn activity(next: Next<'_>, now: Time) -> Activity<'_> {
    match next {
        Next::Rest(until) => Activity::Pause(until),
        Next::Step(Step::Think(think)) => Activity::Pause(now + think.think.0),
        Next::Step(Step::WaitUntil(until)) => Activity::Pause(Time::from_epoch(until.wait_until.0)),
        Next::Step(Step::Idle(Idle { idle: Patience::For(span) })) => Activity::Pause(now + *span),
        Next::Step(Step::Idle(Idle { idle: Patience::Forever })) => Activity::Stay,
        Next::Step(step) => Activity::Act(step),
    }
}

/// Keeps a client connected.
struct Pool<'c> {
    policy: Option<&'c Reconnect>,
    /// How the client connected last.
    connect: Option<&'c Step>,
    /// Attempts that failed since the last one that did not.
    failures: u32,
}

impl<'c> Pool<'c> {
    async fn rest<P: Player>(&mut self, player: &mut P, until: Time) -> bool {
        while !player.rest(until).await {
            if !self.reconnect(player).await {
                return false;
            }
        }
        true
    }

    /// Returns when there is nothing more to be done.
    async fn stay<P: Player>(&mut self, player: &mut P) -> bool {
        loop {
            player.stay().await;
            if !self.reconnect(player).await {
                return false;
            }
        }
    }

    async fn act<P: Player>(&mut self, player: &mut P, step: &'c Step) -> bool {
        let closes = matches!(step, Step::Close(Close { close: Closing::Full }));
        if closes || matches!(step, Step::Disconnect | Step::Reset | Step::Vanish) {
            // Whoever wants to leave and finds the connection closed has what it wants, if it knows how to go on.
            return player.act(step).await || self.policy.is_some() && player.is_closed();
        }
        let connects = matches!(step, Step::Connect(_));
        if connects {
            self.connect = Some(step);
        } else if self.policy.is_some() && player.is_closed() && !self.reconnect(player).await {
            return false;
        }
        loop {
            if player.act(step).await {
                return true;
            }
            let anew = !connects && player.was_not_executed();
            if !self.reconnect(player).await {
                return false;
            }
            if !anew {
                return true;
            }
        }
    }

    /// Connects again, if the connection was closed and there is a policy. False if there is no connection then.
    async fn reconnect<P: Player>(&mut self, player: &mut P) -> bool {
        let (Some(policy), Some(connect)) = (self.policy, self.connect) else {
            return false;
        };
        while player.is_closed() && self.failures < policy.retries {
            player.stay().await;
            let backoff = policy.backoff.0.saturating_mul(1 << self.failures.min(Reconnect::DOUBLINGS));
            player.rest(player.now() + backoff).await;
            if player.act(connect).await {
                self.failures = 0;
                return true;
            }
            self.failures += 1;
        }
        false
    }
}
