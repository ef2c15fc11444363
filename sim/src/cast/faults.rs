//! What befalls the network, the worker, its sessions and the pod's process, as the scenario says.
//!
//! Everything is logged as it begins, and what befalls the worker also as it ends. A worker that is killed can't log
//! anything itself: what its sessions were doing is taken from the log.

use std::collections::{BTreeMap, BTreeSet};

use super::pod;
use super::worker::{self, Farewell, Worker};
use crate::cast::history::{Event, Fault, Recorder, RequestKind, StatementEnd, Tag};
use crate::scenario::{self, Action};
use crate::stage::{Link, SimWorld};

/// Lets `event` happen, if it is one of these.
pub(crate) fn befall<W: SimWorld>(world: &W, recorder: &Recorder, worker: &Worker, event: &scenario::Event) {
    if let Some((fault, between, link)) = on_network(event) {
        recorder.record(world.now(), Event::Fault { what: fault });
        return world.link(between.each_ref().map(String::as_str), link);
    }
    let fault = match event.action {
        Action::WorkerCrash => Fault::WorkerCrash,
        Action::WorkerHang => Fault::WorkerHang,
        Action::WorkerDrain => Fault::WorkerDrain,
        Action::WorkerShutdown => Fault::WorkerShutdown,
        Action::Sigstop => Fault::PodStopped,
        Action::Sigcont => Fault::PodGoesOn,
        Action::Terminate => {
            let client = event.client.clone().unwrap_or_default();
            Fault::Terminate { client, stays_open: event.stays_open }
        }
        Action::Garbage => Fault::Garbage { client: event.client.clone().unwrap_or_default() },
        Action::Notify => {
            let client = event.client.clone().unwrap_or_default();
            let bytes = event.bytes.unwrap_or(scenario::Event::PAYLOAD);
            Fault::Notify { client, count: event.count.unwrap_or(0), bytes }
        }
        _ => return,
    };
    recorder.record(world.now(), Event::Fault { what: fault.clone() });
    match &fault {
        Fault::WorkerCrash => {
            end_sessions(world, recorder);
            world.kill(worker::NAME);
        }
        Fault::WorkerHang => world.freeze(worker::NAME),
        Fault::PodStopped => world.freeze(pod::NAME),
        Fault::PodGoesOn => world.thaw(pod::NAME),
        Fault::Terminate { client, stays_open } => {
            worker.terminate(Some(client), if *stays_open { Farewell::Stays } else { Farewell::Closes });
        }
        Fault::Garbage { client } => worker.terminate(Some(client), Farewell::Garbage),
        Fault::Notify { client, count, bytes } => worker.notify(client, *count, *bytes),
        Fault::WorkerShutdown => {
            worker.refuse(true);
            worker.terminate(None, Farewell::Closes);
        }
        _ => worker.refuse(true),
    }
    if let Some(lasts) = event.lasts() {
        let (world, recorder, worker) = (world.clone(), recorder.clone(), worker.clone());
        world.clone().spawn("worker is back", async move {
            world.sleep_until(world.now() + lasts).await;
            recorder.record(world.now(), Event::Fault { what: Fault::WorkerBack });
            match fault {
                Fault::WorkerCrash => world.start(worker::NAME, |world| worker::run(world, recorder, worker)),
                Fault::WorkerHang => world.thaw(worker::NAME),
                _ => worker.refuse(false),
            }
        });
    }
}

/// Lets what befalls the network befall it beside one of several pods; in the log of that pod it is the only one.
pub(crate) fn befall_pod<W: SimWorld>(world: &W, recorder: &Recorder, event: &scenario::Event) {
    let alone = |end: &String| if end.starts_with("pod-") { pod::NAME.to_owned() } else { end.clone() };
    let told = scenario::Event {
        between: event.between.as_ref().map(|[one, other]| [alone(one), alone(other)]),
        ..event.clone()
    };
    if let (Some((fault, ..)), Some((_, between, link))) = (on_network(&told), on_network(event)) {
        recorder.record(world.now(), Event::Fault { what: fault });
        world.link(between.each_ref().map(String::as_str), link);
    }
}

fn on_network(event: &scenario::Event) -> Option<(Fault, [String; 2], Link)> {
    let between = event.between.clone()?;
    let again = between.clone();
    Some(match event.action {
        Action::Partition => (Fault::Partition { between }, again, Link::Partition),
        Action::Heal => (Fault::Heal { between }, again, Link::Heal),
        Action::Hold => (Fault::Hold { between }, again, Link::Hold),
        Action::Release => (Fault::Release { between }, again, Link::Release),
        Action::Latency => {
            let latency = event.latency?;
            (Fault::Latency { between, latency }, again, Link::Latency(latency.0))
        }
        Action::Rate => {
            let rate = event.rate?;
            (Fault::Rate { between, rate }, again, Link::Rate(rate.0.get().into()))
        }
        _ => return None,
    })
}

/// One session of a worker, as far as the log tells.
#[derive(Default)]
struct Session {
    running: Option<Tag>,
    /// Inserts that are done and not decided.
    uncommitted: Vec<Tag>,
}

impl Session {
    /// These inserts are no longer open, here and among all.
    fn decide<'t>(&mut self, decided: impl Iterator<Item = &'t Tag>, all: &mut BTreeSet<Tag>) {
        for tag in decided {
            all.remove(tag);
            self.uncommitted.retain(|open| open != tag);
        }
    }
}

/// Logs the end of all the worker's sessions: statements that run are aborted, inserts that are not committed are lost.
fn end_sessions<W: SimWorld>(world: &W, recorder: &Recorder) {
    let mut open: BTreeMap<u32, Session> = BTreeMap::new();
    let mut inserts: BTreeSet<Tag> = BTreeSet::new();
    for entry in recorder.history().entries {
        match entry.event {
            Event::RequestSent { tag, kind: RequestKind::Insert | RequestKind::ExecuteInsert, .. } => {
                inserts.insert(tag);
            }
            Event::WorkerSessionBegan { worker_session, .. } => _ = open.insert(worker_session, Session::default()),
            Event::WorkerSessionEnded { worker_session } => _ = open.remove(&worker_session),
            Event::StatementBegan { worker_session, tag } => {
                open.entry(worker_session).or_default().running = Some(tag);
            }
            Event::StatementEnded { worker_session, tag, end } => {
                let session = open.entry(worker_session).or_default();
                session.running = None;
                if end == StatementEnd::Complete && inserts.contains(&tag) {
                    session.uncommitted.push(tag);
                }
            }
            Event::Committed { worker_session, inserts: decided } => {
                let decided = decided.iter().map(|insert| &insert.tag);
                open.entry(worker_session).or_default().decide(decided, &mut inserts);
            }
            Event::RolledBack { worker_session, inserts: decided } => {
                open.entry(worker_session).or_default().decide(decided.iter(), &mut inserts);
            }
            _ => {}
        }
    }
    for (worker_session, Session { running, uncommitted: inserts }) in open {
        let record = |event| recorder.record(world.now(), event);
        if let Some(tag) = running {
            record(Event::StatementEnded { worker_session, tag, end: StatementEnd::Aborted });
        }
        if !inserts.is_empty() {
            record(Event::RolledBack { worker_session, inserts });
        }
        record(Event::WorkerSessionEnded { worker_session });
    }
}

#[cfg(test)]
mod tests {
    use crate::cast::pod::last_call;
    use crate::cast::run::{EngineName, run, settings};
    use crate::scenario::parse;
    use crate::story::{Story, timeline};

    /// Runs a client `a` that does `steps`, and `event` at 1 min: what is told of the two, and of the worker, from then on.
    fn happens(steps: &str, event: &str) -> Vec<String> {
        let text = format!(
            "title = 't'\n[drain]\nlame_duck = '0s'\nidle_grace = '1s'\n[[client]]\nname = 'a'\nsteps = [{steps}]\n\
             [[event]]\nat = '1m'\n{event}\n[[event]]\nat = '2m'\ndo = 'sigterm'\n[expect]\ntimeline = ['signal']\n"
        );
        let scenario = parse("t.toml", &text).unwrap_or_else(|bad| panic!("{}", bad.render(false)));
        let run = run(&last_call(), &scenario, &settings(&scenario), 1, EngineName::TurmoilNet);
        let told = timeline::whole(&Story::of(&run.history, &run.settings));
        let lines = told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let since = lines.skip_while(|words| !words[0].starts_with("1m00.000s"));
        let told = since.filter(|words| words[0].starts_with("1m") && !["kubelet", "pod"].contains(&words[2]));
        told.map(|words| words[2..].join(" ")).collect()
    }

    #[test]
    fn a_worker_that_crashes_takes_its_sessions_along_and_comes_back() {
        let told = happens("'connect', { idle = '65s' }, 'disconnect'", "do = 'worker_crash'");
        assert_eq!(told[..2], ["worker is SIGKILLed", "a (worker) session over"]);
        assert!(told.contains(&"worker is back".to_owned()), "{told:#?}");
        let told = happens("'connect', 'begin', { insert = 1 }, { query = '5m' }", "do = 'worker_crash'");
        let expected =
            ["worker is SIGKILLed", "a (worker) 3 aborted", "a (worker) 2 rolled back", "a (worker) session over"];
        assert_eq!(told[..4], expected, "{told:#?}");
    }

    #[test]
    fn a_worker_that_hangs_answers_when_it_goes_on() {
        let steps = "'connect', { wait_until = '61s' }, { query = '1ms' }, 'disconnect'";
        let told = happens(steps, "do = 'worker_hang'\nback_after = '10s'");
        let expected = [
            "worker hangs",
            "a 1 sent: query",
            "worker is back",
            "a (worker) 1 began",
            "a (worker) 1 complete",
            "a 1 answered",
        ];
        assert_eq!(told[..6], expected, "{told:#?}");
    }

    #[test]
    fn a_worker_that_drains_refuses_who_is_new() {
        let told = happens("{ wait_until = '61s' }, 'connect'", "do = 'worker_drain'");
        let refused = "a read FATAL 57P03 the database system is shutting down";
        assert!(
            told.contains(&"worker takes no new sessions".to_owned()) && told.contains(&refused.to_owned()),
            "{told:#?}"
        );
        let told =
            happens("{ wait_until = '72s' }, 'connect', 'disconnect'", "do = 'worker_drain'\nback_after = '10s'");
        assert!(told.contains(&"a session began".to_owned()), "{told:#?}");
    }

    #[test]
    fn a_session_that_is_terminated_is_told_so_in_the_middle_of_its_statement() {
        let steps = "'connect', 'begin', { insert = 1 }, { query = '5m' }";
        for event in ["do = 'terminate'\nclient = 'a'", "do = 'worker_shutdown'"] {
            let told = happens(steps, event);
            let worker: Vec<&String> = told.iter().filter(|line| line.starts_with("a (worker)")).collect();
            assert_eq!(
                worker,
                ["a (worker) 3 failed with 57P01", "a (worker) 2 rolled back", "a (worker) session over"]
            );
            let fatal = "a read FATAL 57P01 terminating connection due to administrator command".to_owned();
            assert!(told.contains(&fatal), "{told:#?}");
        }
        let told = happens("{ wait_until = '61s' }, 'connect'", "do = 'worker_shutdown'\nback_after = '10s'");
        assert!(told.iter().any(|line| line.contains("FATAL 57P03")), "{told:#?}");
    }

    #[test]
    fn a_worker_that_says_its_fatal_and_stays_does_not_end_the_session_itself() {
        let told = happens("'connect'", "do = 'terminate'\nclient = 'a'\nstays_open = true");
        let at = |text: &str| told.iter().position(|line| line == text);
        let (record, over) = (at("a end record: worker_lost"), at("a (worker) session over"));
        assert!(record.is_some() && over > record, "{told:#?}");
    }

    #[test]
    fn a_process_that_stands_still_answers_when_it_goes_on() {
        let steps = "'connect', { wait_until = '61s' }, { query = '1ms' }, 'disconnect'";
        let event = "do = 'sigstop'\n[[event]]\nat = '70s'\ndo = 'sigcont'";
        let told = happens(steps, event);
        assert_eq!(told[..3], ["a 1 sent: query", "a (worker) 1 began", "a (worker) 1 complete"], "{told:#?}");
    }

    #[test]
    fn a_partition_of_one_client_holds_up_its_answer() {
        let event =
            "do = 'partition'\nbetween = ['a', 'pod']\n[[event]]\nat = '70s'\ndo = 'heal'\nbetween = ['a', 'pod']";
        let told = happens("'connect', { wait_until = '61s' }, { query = '1ms' }, 'disconnect'", event);
        let expected = [
            "network loses packets between a and pod",
            "a 1 sent: query",
            "network loses no more packets between a and pod",
            "a (worker) 1 began",
        ];
        assert_eq!(told[..4], expected, "{told:#?}");
    }
}
