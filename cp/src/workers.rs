//! The workers that are known: who has how many sessions, and who had better be left alone for a while.
//!
//! A name may have several addresses, and each of them is a worker. A session goes to the one with the fewest sessions of this
//! process; one that could not be reached, or said that it takes no sessions now, comes last for a while. Cancel
//! requests go to the very address that has the session.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::line::Place;
use crate::sync::{Arc, Mutex, MutexGuard};
use lastcall_core::Time;
use lastcall_world::World;
use lastcall_world::alarm::within;

/// How long one that could not be reached, or takes no sessions, comes last.
const REST: Duration = Duration::from_secs(5);
/// How long names may take to be looked up.
const LOOK_UP: Duration = Duration::from_secs(15);

/// Names and addresses that one process leaves to the next.
const MAX_LEGACY: usize = 64;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    names: Vec<Arc<str>>,
    /// Where sessions of the processes before this one are: for cancel requests alone.
    before: Vec<Arc<str>>,
    places: Mutex<BTreeMap<Place, Standing>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    sessions: usize,
    /// Until then it comes last.
    rests: Time,
}

impl Workers {
    pub(crate) fn new(names: Vec<String>, before: Vec<String>) -> Workers {
        let arcs = |names: Vec<String>| names.into_iter().map(Into::into).collect();
        Workers { names: arcs(names), before: arcs(before), places: Mutex::default() }
    }

    /// Whoever may have a session of this process or of one before it: names first, then the addresses that have sessions here.
    pub(crate) fn all(&self) -> Vec<String> {
        let book = self.book();
        let here = book.iter().filter(|(_, standing)| standing.sessions > 0).map(|(place, _)| &place.address);
        let mut all: Vec<String> = Vec::new();
        for name in self.names.iter().chain(here).chain(&self.before) {
            if !all.iter().any(|known| **known == **name) && all.len() < MAX_LEGACY {
                all.push(name.to_string());
            }
        }
        all
    }

    /// Every place at which there may be a worker, in the order of the configuration.
    ///
    /// # Errors
    /// If no name has an address: the last one's error.
    pub(crate) async fn places<W: World>(&self, world: &W) -> io::Result<Vec<Place>> {
        self.look_up(world, &self.names).await
    }

    /// Every place at which a session may be that is not one of this process's, each once.
    pub(crate) async fn everywhere<W: World>(&self, world: &W) -> Vec<Place> {
        let mut places = self.places(world).await.unwrap_or_default();
        for place in self.look_up(world, &self.before).await.unwrap_or_default() {
            if !places.iter().any(|known| known.address == place.address) {
                places.push(place);
            }
        }
        places
    }

    async fn look_up<W: World>(&self, world: &W, names: &[Arc<str>]) -> io::Result<Vec<Place>> {
        let (mut places, mut failed) = (Vec::new(), io::Error::from(io::ErrorKind::NotFound));
        let deadline = world.now() + LOOK_UP;
        for name in names {
            match within(world, deadline, world.resolve(name)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
                Ok(addresses) => {
                    places.extend(
                        addresses.into_iter().map(|address| Place { name: name.clone(), address: address.into() }),
                    );
                }
                Err(error) => failed = error,
            }
        }
        if places.is_empty() { Err(failed) } else { Ok(places) }
    }

    /// Whom to ask first: the fewest sessions first, those that rest last.
    pub(crate) fn rank(&self, mut places: Vec<Place>, now: Time) -> Vec<Place> {
        let book = self.book();
        places.sort_by_cached_key(|place| {
            let Standing { sessions, rests } = book.get(place).copied().unwrap_or_default();
            (now < rests, sessions)
        });
        places
    }

    /// A session goes there, or tries to.
    pub(crate) fn seat(self: &Arc<Self>, place: Place) -> Seat {
        self.book().entry(place.clone()).or_default().sessions += 1;
        Seat { workers: self.clone(), place: Arc::new(place) }
    }

    /// It could not be reached, or takes no sessions now.
    pub(crate) fn rest(&self, place: &Place, now: Time) {
        // Where there is nobody else it changes nothing, and nothing need be remembered.
        if let Some(standing) = self.book().get_mut(place) {
            standing.rests = now + REST;
        }
    }

    /// For the log.
    pub(crate) fn names(&self) -> String {
        self.names.join(", ")
    }

    fn book(&self) -> MutexGuard<'_, BTreeMap<Place, Standing>> {
        self.places.lock().expect("nothing panics while it counts")
    }
}

/// One session's seat at a worker: counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    workers: Arc<Workers>,
    pub(crate) place: Arc<Place>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(standing) = self.workers.book().get_mut(&*self.place) {
            standing.sessions -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place { name: name.into(), address: name.into() }
    }

    #[test]
    fn the_one_with_the_fewest_sessions_comes_first_and_one_that_rests_last() {
        let workers = Arc::new(Workers::new(vec!["a:1".into(), "b:1".into()], Vec::new()));
        let (a, b) = (place("a:1"), place("b:1"));
        let first = |now| workers.rank(vec![a.clone(), b.clone()], now).remove(0);
        assert_eq!(first(Time::EPOCH), a, "the order of the configuration");
        let seat = workers.seat(a.clone());
        assert_eq!(first(Time::EPOCH), b);
        let other = workers.seat(b.clone());
        assert_eq!(first(Time::EPOCH), a);
        workers.rest(&a, Time::EPOCH);
        assert_eq!(first(Time::EPOCH), b);
        assert_eq!(first(Time::EPOCH + REST), a);
        drop(other);
        assert_eq!(first(Time::EPOCH + REST), b);
        drop(seat);
        assert_eq!(first(Time::EPOCH + REST), a);
    }
}
