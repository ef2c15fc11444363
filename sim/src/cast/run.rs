//! One run: a scenario, settings, a seed and an engine in; a history out.

mod deployed;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastcall_core::{Settings, Time};
use lastcall_world::watched::Watched;

use crate::cast::history::{Event, History, Recorder};
use crate::cast::pod::{self, Pod};
use crate::cast::service::Way;
use crate::cast::{client, kubelet, worker};
use crate::scenario::{self, Need, Scenario};
use crate::stage::{Capabilities, Ending, Engine, Host, Madsim, Plan, SimWorld, Turmoil, TurmoilNet};

/// How long the hosts may still move bytes once everything that the scenario asks for has happened.
const SETTLE: Duration = Duration::from_secs(2);
/// The longest that a run waits for packets that are still on their way then.
const REST: Duration = Duration::from_secs(60);
/// How much later than expected an exit may be and still be seen.
const LATE: u32 = 3;
/// Simulated time beyond that, or the SIGKILL.
const RESERVE: Duration = Duration::from_secs(2 * 60);

/// What part of the time to its end a window must be for ticks to do.
const NARROW: u32 = 1000;

/// The engines, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineName {
    /// Event-driven on turmoil-net: skips idle time.
    #[default]
    TurmoilNet,
    /// turmoil: fixed ticks.
    Turmoil,
    /// madsim: takes tasks in any order.
    Madsim,
}

impl EngineName {
    /// All of them.
    pub const ALL: [EngineName; 3] = [EngineName::TurmoilNet, EngineName::Turmoil, EngineName::Madsim];

    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            EngineName::TurmoilNet => TurmoilNet::NAME,
            EngineName::Turmoil => Turmoil::NAME,
            EngineName::Madsim => Madsim::NAME,
        }
    }

    /// What to do about it, if this program was built without it.
    pub const fn missing(self) -> Option<&'static str> {
        match self {
            #[cfg(not(madsim))]
            EngineName::Madsim => Some(crate::stage::madsim::REMEDY),
            _ => None,
        }
    }
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What happened.
    pub history: History,
    /// How many pods there were, of a deployment.
    pub pods: Option<u32>,
    /// How the simulation ended.
    pub ending: Ending,
    /// The settings under which the pod ran.
    pub settings: Settings,
    /// The pod's termination grace.
    pub termination_grace: Duration,
    /// The shortest time that the engine told apart.
    pub resolution: Duration,
}

/// What the scenario needs and the engine can't do, in words. Empty: it can run.
pub fn lacks(scenario: &Scenario, engine: EngineName) -> Vec<&'static str> {
    let needed = needs(scenario);
    match engine {
        EngineName::TurmoilNet => TurmoilNet::SUPPORTS.lacks(needed),
        EngineName::Turmoil => Turmoil::SUPPORTS.lacks(needed),
        EngineName::Madsim => Madsim::SUPPORTS.lacks(needed),
    }
}

/// Runs `scenario` with this pod under `settings`.
pub fn run(pod: &Arc<dyn Pod>, scenario: &Scenario, settings: &Settings, seed: u64, engine: EngineName) -> Run {
    match engine {
        EngineName::TurmoilNet => run_on::<TurmoilNet>(pod, scenario, settings, seed),
        EngineName::Turmoil => run_on::<Turmoil>(pod, scenario, settings, seed),
        EngineName::Madsim => run_on::<Madsim>(pod, scenario, settings, seed),
    }
}

/// The shortest time that a run of `scenario` under `settings` tells apart.
pub fn resolution(scenario: &Scenario, settings: &Settings, engine: EngineName) -> Duration {
    let limit = limit(scenario, settings);
    match engine {
        EngineName::TurmoilNet => TurmoilNet::resolution(limit),
        EngineName::Turmoil => Turmoil::resolution(limit),
        EngineName::Madsim => Madsim::resolution(limit),
    }
}

/// The settings of the scenario: the defaults, and what its `[drain]` says.
pub fn settings(scenario: &Scenario) -> Settings {
    let mut settings = Settings::default();
    scenario.drain.apply(&mut settings);
    settings
}

/// How far a run has got, as far as its end depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    clients_left: u32,
    /// Everything that the scenario lets happen has happened.
    events_done: bool,
    pod_gone: bool,
    /// The log takes no more.
    full: bool,
}

fn run_on<E: Engine>(pod: &Arc<dyn Pod>, scenario: &Scenario, settings: &Settings, seed: u64) -> Run {
    if scenario.deployment.is_some() {
        return deployed::run_on::<E>(pod, scenario, settings, seed);
    }
    let termination_grace = kubelet::termination_grace(scenario);
    let limit = limit(scenario, settings);
    let recorder = Recorder::default();
    let clients_left = scenario.clients.iter().map(|client| client.count).sum();
    let progress = Progress { clients_left, events_done: false, pod_gone: false, full: false };
    let worker = worker::Worker::default();
    let shared = Shared { recorder: recorder.clone(), progress: Watched::new(progress) };
    let world = Arc::new(Mutex::new(None));

    let hosts = vec![
        Host::new(worker::NAME, {
            let (recorder, worker) = (recorder.clone(), worker.clone());
            move |world| worker::run(world, recorder, worker)
        }),
        Host::new(pod::NAME, {
            let (recorder, pod, settings) = (recorder.clone(), pod.clone(), settings.clone());
            let at_worker = worker::address(worker::NAME, None);
            move |world| pod::run(world, pod::NAME, recorder, pod, at_worker, settings)
        })
        .on(pod::machine()),
        Host::new(kubelet::NAME, {
            let (shared, scenario) = (shared.clone(), scenario.clone());
            move |world| async move {
                kubelet::run(world, shared.recorder.clone(), scenario, worker).await;
                shared.change(|progress| progress.events_done = true);
            }
        }),
        // All clients on one host: on some engines each host costs time of its own.
        Host::new("clients", {
            let (shared, scenario, world_out) = (shared.clone(), scenario.clone(), world.clone());
            move |world: E::World| {
                *world_out.lock().expect("nothing panics while it holds this") = Some(world.clone());
                direct(world, shared, scenario)
            }
        }),
    ];
    let ending = E::simulate(Plan { seed, limit }, hosts);
    close(&recorder, &world, &ending);
    Run {
        history: recorder.take_history(),
        pods: None,
        ending,
        settings: settings.clone(),
        termination_grace,
        resolution: E::resolution(limit),
    }
}

/// The last words of a run's log.
fn close<W: SimWorld>(recorder: &Recorder, world: &Mutex<Option<W>>, ending: &Ending) {
    let panics = world.lock().expect("the simulation is over").as_ref().map(SimWorld::panics).unwrap_or_default();
    for panic in panics {
        let task = format!("{}/{}", panic.host, panic.task);
        recorder.record(ending.at(), Event::Panicked { task, message: panic.message });
    }
    if !matches!(ending, Ending::Finished { .. }) {
        recorder.record(ending.at(), Event::OutOfTime);
    }
    recorder.close_if_full();
}

/// How long the run may take, in simulated time: to the SIGKILL, or under the file's own settings to some time behind the exit
/// that it expects, and some more. Engines that count ticks choose them by it, and a hot client that is never closed costs no
/// more than it.
fn limit(scenario: &Scenario, settings: &Settings) -> Duration {
    let termination_grace = kubelet::termination_grace(scenario);
    let last = |event: &scenario::Event| event.at.0 + event.lasts().unwrap_or_default();
    let last_event = scenario.events.iter().map(last).max().unwrap_or_default();
    let expected = scenario.expect.exit.as_ref().and_then(|exit| exit.within).map(|within| LATE * within.0);
    let own = *settings == self::settings(scenario);
    last_event + expected.filter(|_| own).unwrap_or(termination_grace).min(termination_grace) + RESERVE
}

#[derive(Clone)]
struct Shared {
    recorder: Recorder,
    progress: Watched<Progress>,
}

impl Shared {
    /// All of a run's tasks are on one thread: nobody changes it between the look and the change.
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.value();
        change(&mut progress);
        self.progress.change(progress);
    }
}

/// Starts the clients, waits until nothing more can happen that the scenario asks for, and ends the run.
async fn direct<W: SimWorld>(world: W, shared: Shared, scenario: Scenario) {
    let ends_pod = scenario.events.iter().any(|event| event.action.ends_pod());
    for client in &scenario.clients {
        // Only faults of its own ask who a connection belongs to.
        let named = scenario.events.iter().any(|event| event.between.iter().flatten().any(|end| *end == client.name));
        let home = if named { world.alias(&client.name) } else { world.clone() };
        for copy in 1..=client.count {
            let (task, shared) = (client.clone(), shared.clone());
            let steps = client::run(home.clone(), Way::direct(shared.recorder.clone()), task, copy);
            world.spawn("client", async move {
                steps.await;
                shared.change(|progress| progress.clients_left -= 1);
            });
        }
    }
    let watch = shared.clone();
    shared.recorder.on_pod_gone(move || watch.change(|progress| progress.pod_gone = true));
    let watch = shared.clone();
    shared.recorder.on_full(move || watch.change(|progress| progress.full = true));
    let mut progress = shared.progress.subscribe();
    let over = |progress: &Progress| {
        let happened = if ends_pod { progress.pod_gone } else { progress.events_done };
        progress.full || progress.clients_left == 0 && happened
    };
    std::future::poll_fn(|cx| progress.poll_until(over, cx)).await;
    if shared.progress.value().full {
        return world.finish();
    }
    rest(&world).await;
    shared.recorder.end();
    world.finish();
}

/// A network whose packets take seconds has not come to rest when everybody has ended.
async fn rest<W: SimWorld>(world: &W) {
    let rests_by = world.now() + REST;
    loop {
        let end = world.now() + SETTLE;
        world.sleep_until(end).await;
        if !world.is_network_busy() || world.now() >= rests_by {
            break;
        }
    }
}

/// What of a network the scenario can't do without.
fn needs(scenario: &Scenario) -> Capabilities {
    let mut needed = Capabilities::default();
    for need in scenario.needs() {
        *match need {
            Need::HalfClose => &mut needed.half_close,
            Need::Reset => &mut needed.reset,
            Need::Backpressure => &mut needed.backpressure,
            Need::AbortiveClose => &mut needed.abortive_close,
            Need::Vanish => &mut needed.vanish,
            Need::PacketLoss => &mut needed.packet_loss,
            Need::Hold => &mut needed.hold,
            Need::Latency => &mut needed.latency,
            Need::Rate => &mut needed.rate,
            Need::Restart => &mut needed.restart,
            Need::DyingMachines => &mut needed.dying_machines,
        } = true;
    }
    needed.dying_machines |= scenario.deployment.is_some();
    for client in scenario.expect.client.values() {
        needed.dying_machines |= client.killed;
        // Where time goes by in ticks, each step of a client ends some of them late.
        needed.exact_times |= client.between.is_some_and(|[from, to]| to.0.saturating_sub(from.0) * NARROW < to.0);
    }
    needed
}

impl Run {
    /// How long the run was, in simulated time.
    pub fn simulated(&self) -> Duration {
        self.ending.at().since(Time::EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::gate::{Verdict, judge};
    use crate::scenario::{ScenarioFile, parse};

    #[test]
    fn a_file_that_needs_more_than_its_engine_can_do_is_not_supported_and_never_passes() {
        let text = "title = 't'\n[[event]]\nat = '1m'\ndo = 'partition'\nbetween = ['clients', 'pod']\n\
                    [[event]]\nat = '2m'\ndo = 'worker_crash'\n[[fails_under]]\nlame_duck = '0s'\nbreaks = ['never-cut']\n";
        let scenario = parse("t.toml", text).expect("it is a good file");
        assert!(lacks(&scenario, EngineName::TurmoilNet).is_empty());
        assert_eq!(lacks(&scenario, EngineName::Turmoil), ["packet loss", "restarts"]);
        let file = ScenarioFile { path: "t.toml".into(), scenario };
        let judgement =
            judge(&pod::last_call(), &file, None, EngineName::Turmoil, &|_, _, _, _| unreachable!("nothing was run"));
        assert_eq!(judgement.verdict, Verdict::NotSupported(vec!["packet loss", "restarts"]));
        assert!(judgement.simulated.is_zero());
    }

    #[test]
    fn a_run_that_fills_the_log_is_stopped_and_the_busiest_client_is_named() {
        let text = "title = 't'\n[[client]]\nname = 'calm'\nsteps = ['connect', { query = '1s' }, { idle = 'forever' }]\n\
                    [[client]]\nname = 'hog'\nsteps = ['connect', { pipeline = [{ query = '0' }], repeat = 'forever' }]\n\
                    [[event]]\nat = '24h'\ndo = 'sigterm'\n[expect]\nexit = { within = '31s' }\n";
        let file = ScenarioFile { path: "t.toml".into(), scenario: parse("t.toml", text).expect("it is a good file") };
        for engine in [EngineName::TurmoilNet, EngineName::Turmoil] {
            let trial = crate::judge::gate::trial(&pod::last_call(), &file, 1, engine, None);
            let broke: Vec<_> = trial.failures.iter().map(|failure| failure.broke.as_str()).collect();
            assert_eq!(broke, ["budget"], "{}", engine.name());
            assert!(trial.failures[0].what.contains("hog"), "{}", trial.failures[0].what);
            assert!(trial.simulated < Duration::from_secs(3600));
        }
    }

    #[test]
    fn a_window_of_a_second_behind_an_hour_needs_exact_times_and_who_is_killed_needs_a_machine_that_dies() {
        let lacking = |expect: &str| {
            let text = format!(
                "title = 't'\n[[client]]\nname = 'c'\nsteps = ['connect', {{ idle = 'forever' }}]\n\
                 [[event]]\nat = '1m'\ndo = 'sigterm'\n[expect]\nclient.c = {{ {expect} }}\n"
            );
            lacks(&parse("t.toml", &text).expect("it is a good file"), EngineName::Turmoil)
        };
        assert_eq!(lacking("between = ['1h', '1h1s']"), ["exact times"]);
        assert_eq!(lacking("between = ['15s', '31s']"), [""; 0]);
        assert_eq!(lacking("killed = true"), ["machines that die"]);
    }
}
