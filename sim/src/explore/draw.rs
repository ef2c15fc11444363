//! Scenarios drawn from a seed: what nobody wrote.
//!
//! What is drawn is what the file format parses to: any word of the vocabulary with any of its keys, any setting, any event,
//! between any two that talk to each other. Times like edges: the signal, due times, graces, walls, the lame duck's end, and
//! a millisecond beside them. In each scenario some words and some events are left out altogether (swarm testing): what
//! is common in all keeps what is rare from ever coming together. Some scenarios are rollouts ([`deployment`]).

mod deployment;

use std::time::Duration;

use lastcall_core::Settings;
use lastcall_core::settings::{Kind, SETTINGS, print_duration};

use crate::scenario::draw::{Drawn, step};
use crate::scenario::{Action, Scenario, Span, Step, Word};
use crate::stage::random::Stream;

use super::mutate::mutant;
use super::text::Draft;

/// Drawings that don't fit together are thrown away; after so many the defaults are left as they are.
const ATTEMPTS: u32 = 20;
/// Clients in one scenario; half of all scenarios have five or fewer.
const CLIENTS: u32 = 10;
/// Steps that are tried for one client; those that can't be done where they would stand are left out.
const STEPS: u32 = 14;
/// Faults and orders beside the one that ends the run.
const EVENTS: u32 = 4;
/// When things begin, at the latest, in milliseconds.
const SOON: u32 = 120_000;

/// What belongs together, and what words drawn one by one hardly ever come to: `@T` is a moment, `@L` and `@S` are long and
/// short times, and `@E` is an end of the client's own.
const HABITS: [&[&str]; 11] = [
    // Reads late what lies in the buffers.
    &[
        r#"{ read = "stop" }"#,
        r#"{ query = "@S", rows = 150, row_bytes = 1000, wait = false }"#,
        r#"{ wait_until = "@T" }"#,
        r#"{ read = "resume" }"#,
    ],
    // A COPY fails before it has read the Sync behind it, and something long follows, or nothing.
    &[r#"{ copy_in = 3, protocol = "extended", into = "view" }"#, r#"{ query = "@L" }"#],
    &[r#"{ copy_in = 3, protocol = "extended", late_sync = false, into = "view" }"#, r#"{ wait_until = "@T" }"#],
    &[r#"{ execute = "@S" }"#, r#"{ partial = 3, query = "@S" }"#],
    // A batch that ends when nothing new is taken any more.
    &[r#"{ execute = "@S" }"#, r#"{ wait_until = "@T" }"#, r#""sync""#],
    // A COPY whose client thinks for longer than many a timeout.
    &[r#"{ copy_in = 2, every = "@L" }"#],
    // Gone a while behind a request that is held back.
    &[
        r#"{ query = "@L", wait = false }"#,
        r#"{ wait_until = "@T" }"#,
        r#"{ query = "@S", wait = false }"#,
        r#"{ think = "@S" }"#,
        "@E",
    ],
    &[r#"{ query = "@S", wait = false }"#, "{ garbage = 3 }"],
    &[r#"{ query = "@L", wait = false }"#, r#"{ wait_until = "@T" }"#, "@E"],
    &[r#""begin""#, "{ insert = 1 }", r#"{ wait_until = "@T" }"#, r#""commit""#],
    // As a driver's executemany does, which dies before its Sync.
    &[r#""begin""#, "{ insert = 1 }", r#"{ execute = "@S" }"#, r#"{ wait_until = "@T" }"#, "@E"],
];

/// The scenario of this seed, as it stands in a file.
pub fn scenario(seed: u64) -> String {
    anew(&mut Dice::new(seed), seed)
}

/// The scenario of this seed where there are some that reached something rare: three times in four one of those, changed.
pub(super) fn beside(seed: u64, drafts: &[Draft]) -> String {
    let mut dice = Dice::new(seed);
    let steered = !drafts.is_empty() && !dice.once_in(4);
    let mutant = steered.then(|| mutant(&mut dice, drafts)).flatten();
    mutant.unwrap_or_else(|| anew(&mut dice, seed))
}

/// One scenario in so many has several pods.
const DEPLOYMENTS: u32 = 16;

fn anew(dice: &mut Dice, seed: u64) -> String {
    // From numbers of its own: what else is drawn from the seed stays as it is.
    if Dice::of(seed, "deployment").once_in(DEPLOYMENTS) {
        return deployment::scenario(&mut Dice::of(seed, "rollout"), seed);
    }
    let mut draft = Draft::new(&format!("Seed {seed} of the explorer"));
    let settings = dice.settings(&mut draft);
    let mut plan = Plan::new(dice, &settings);
    plan.clients(dice, &mut draft);
    plan.events(dice, &mut draft);
    draft.to_string()
}

/// As a file would have it: in milliseconds.
fn whole(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Random numbers, in the forms that are needed here.
pub(super) struct Dice(Stream);

impl Dice {
    /// Those of a seed.
    pub(super) fn new(seed: u64) -> Dice {
        Dice::of(seed, "scenario")
    }

    fn of(seed: u64, purpose: &str) -> Dice {
        Dice(Stream::new(seed, "explore", purpose))
    }

    pub(super) fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.0.below(u64::from(limit))).expect("as small as its bound")
    }

    /// A place in a list of so many; 0 if it is empty.
    pub(super) fn place(&mut self, length: usize) -> usize {
        self.below(u32::try_from(length.max(1)).expect("a short list")) as usize
    }

    /// Whether something happens that does so once in `times`.
    pub(super) fn once_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.place(choices.len())]
    }

    /// Each of them with the same chance to be there, at least one.
    fn some_of<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        let share = 2 + self.below(3);
        let mut some: Vec<T> = all.iter().copied().filter(|_| self.once_in(share)).collect();
        if some.is_empty() {
            some.push(self.one_of(all));
        }
        some
    }

    /// Up to `most` milliseconds; each order of magnitude is as likely as the next.
    fn millis(&mut self, most: u32) -> Duration {
        let magnitude = 10_u32.pow(1 + self.below(most.max(1).ilog10() + 1));
        Duration::from_millis(self.below(most.min(magnitude) + 1).into())
    }

    /// How a client connects that begins at `start`; now and then so that its startup packet leaves then, and not its SYN.
    fn connect(&mut self, start: &mut Duration) -> String {
        if !start.is_zero() && self.once_in(4) {
            let pause = self.millis(20_000).min(*start);
            *start -= pause;
            return format!("{{ connect = {{ pause = \"{}\" }} }}", Span(pause));
        }
        let connect = Word::of("connect").expect("clients connect");
        if self.once_in(4) { step(connect, &mut |limit| self.below(limit)) } else { "\"connect\"".to_owned() }
    }

    /// Some of the settings otherwise than by default, so that they fit together; half of the time all as they are.
    pub(super) fn settings(&mut self, draft: &mut Draft) -> Settings {
        for _ in 0..ATTEMPTS {
            let mut settings = Settings::default();
            if self.once_in(2) {
                return settings;
            }
            let mut named = Vec::new();
            for setting in SETTINGS {
                if self.once_in(3)
                    && let Some(value) = self.setting(setting.kind, &settings, setting.name)
                    && settings.set(setting.name, &value).is_ok()
                {
                    named.push((setting.name, value));
                }
            }
            if settings.check().is_ok() {
                // A pod that is not told its grace, or another one, is killed by the kubelet, which proves nothing.
                if let Some(grace) = settings.termination_grace {
                    draft.pod("termination_grace", &print_duration(grace));
                }
                for (name, value) in named {
                    draft.setting(name, &value);
                }
                return settings;
            }
        }
        Settings::default()
    }

    fn setting(&mut self, kind: Kind, settings: &Settings, name: &str) -> Option<String> {
        Some(match kind {
            // The old policies break the promises.
            Kind::Policy => return None,
            Kind::Pacing => self.one_of(&["even", "none"]).to_owned(),
            Kind::Count => self.one_of(&["1", "2", "3", "10"]).to_owned(),
            Kind::OptionalDuration => self.one_of(&["30s", "1m", "5m", "30m", "24h"]).to_owned(),
            Kind::Duration => match self.below(8) {
                0 => "0".to_owned(),
                1 => self.one_of(&["1ms", "1s", "5s", "10s", "1m", "5m"]).to_owned(),
                _ => {
                    let default = settings.setting(name)?.parse::<Span>().ok()?.0;
                    let usual = if default.is_zero() { Duration::from_secs(60) } else { default };
                    let (times, parts) =
                        self.one_of(&[(1, 300), (1, 60), (1, 15), (1, 5), (1, 2), (1, 1), (2, 1), (6, 1)]);
                    print_duration(whole(usual * times / parts).max(Duration::from_millis(1)))
                }
            },
        })
    }
}

/// What a scenario is drawn along.
pub(super) struct Plan {
    /// When the pod is told to stop.
    signal: Duration,
    /// Moments at which something is decided.
    edges: Vec<Duration>,
    /// The words that clients have.
    words: Vec<&'static Word>,
    actions: Vec<Action>,
    /// The clients so far, and whether they listen.
    names: Vec<(String, bool)>,
}

impl Plan {
    fn new(dice: &mut Dice, settings: &Settings) -> Plan {
        let signal = match dice.below(4) {
            0 => dice.millis(SOON),
            _ => Duration::from_millis(dice.one_of(&[1, 1_000, 10_000, 30_000, 60_000])),
        };
        Plan::around(dice, settings, signal)
    }

    /// The one along which this scenario goes.
    pub(super) fn of(dice: &mut Dice, scenario: &Scenario, settings: &Settings) -> Plan {
        let ends = scenario.events.iter().find(|event| event.action.ends_pod());
        Plan::around(dice, settings, ends.map_or(Duration::ZERO, |event| event.at.0))
    }

    fn around(dice: &mut Dice, settings: &Settings, signal: Duration) -> Plan {
        let wall = [
            Some(settings.handover_drain_timeout).filter(|wall| !wall.is_zero()),
            settings.termination_grace.map(|grace| grace.saturating_sub(settings.teardown_budget)),
        ];
        let after = [
            Duration::ZERO,
            settings.lame_duck,
            settings.idle_grace / 2,
            settings.idle_grace,
            settings.idle_grace + settings.close_linger,
            settings.transaction_grace,
            settings.stall_grace,
            settings.transaction_budget,
        ];
        let steady = [settings.idle_timeout, settings.session_init_timeout, settings.worker_queue_timeout];
        let drained = after.into_iter().chain(wall.into_iter().flatten()).map(|after| signal + whole(after));
        let edges = drained.chain(steady).filter(|edge| *edge < Duration::from_secs(7200)).collect();
        let words: Vec<&Word> = Step::WORDS.iter().filter(|word| word.name != "connect").collect();
        let words = dice.some_of(&words);
        let actions: Vec<Action> =
            Action::ALL.into_iter().filter(|action| !action.ends_pod() && !action.is_of_deployment()).collect();
        Plan { signal, edges, words, actions: dice.some_of(&actions), names: Vec::new() }
    }

    /// A moment: at an edge, or beside one, or any.
    pub(super) fn moment(&self, dice: &mut Dice) -> Duration {
        if dice.once_in(3) {
            return dice.millis(SOON);
        }
        let edge = dice.one_of(&self.edges);
        match dice.below(6) {
            0 => edge + Duration::from_millis(1),
            1 => edge.saturating_sub(Duration::from_millis(1)),
            2 => edge.saturating_sub(Duration::from_millis(2 + u64::from(dice.below(4)))),
            3 => edge.saturating_sub(dice.millis(5_000)),
            _ => edge,
        }
    }

    fn clients(&mut self, dice: &mut Dice, draft: &mut Draft) {
        let clients = 1 + dice.below(CLIENTS);
        for number in 1..=clients {
            let name = format!("c{number}");
            let mut start = if dice.once_in(3) { self.moment(dice) } else { Duration::ZERO };
            let mut drawn = Drawn::new(Span(start));
            let connect = dice.connect(&mut start);
            drawn.push(connect);
            self.steps(dice, &mut drawn);
            let mut keys = Vec::new();
            if !start.is_zero() {
                keys.push(("start", format!("{:?}", Span(start).to_string())));
            }
            if dice.once_in(6) {
                keys.push(("count", (2 + dice.below(8)).to_string()));
                keys.push(("stagger", format!("\"{}ms\"", dice.below(50))));
            }
            if dice.once_in(5) {
                let retries = 1 + dice.below(4);
                keys.push((
                    "reconnect",
                    format!("{{ backoff = \"{}ms\", retries = {retries} }}", 1 + dice.below(3_000)),
                ));
            }
            draft.client(&name, drawn.texts(), &keys);
            self.names.push((name, drawn.listens()));
        }
    }

    fn steps(&self, dice: &mut Dice, drawn: &mut Drawn) {
        for _ in 0..dice.below(STEPS) {
            if dice.once_in(40) {
                let habit = dice.one_of(&HABITS);
                for step in habit {
                    drawn.push(self.filled(dice, step));
                }
            }
            if dice.once_in(3) {
                let until = Span(self.moment(dice));
                drawn.push(format!("{{ wait_until = \"{until}\" }}"));
            }
            let word = dice.one_of(&self.words);
            let text = match word.name {
                // A statement that ends at an edge.
                "query" if dice.once_in(3) => {
                    let [at, short] = [self.moment(dice), dice.millis(60_000)];
                    let long = short * dice.one_of(&[1, 1, 1, 60]);
                    drawn.push(format!("{{ wait_until = \"{}\" }}", Span(at.saturating_sub(long))));
                    format!("{{ query = \"{}\" }}", Span(long))
                }
                _ => step(word, &mut |limit| dice.below(limit)),
            };
            drawn.push(text);
        }
        if dice.once_in(2) {
            drawn.push("{ idle = \"forever\" }".to_owned());
        }
    }

    /// A step of a habit, with what is drawn in it.
    fn filled(&self, dice: &mut Dice, step: &str) -> String {
        let [short, long] = [dice.millis(5_000), dice.millis(60_000) * 20].map(|time| Span(time).to_string());
        let end = dice.one_of(&[r#""vanish""#, r#""close""#, r#""reset""#]);
        let moment = Span(self.moment(dice)).to_string();
        step.replace("@T", &moment).replace("@S", &short).replace("@L", &long).replace("@E", end)
    }

    fn events(&self, dice: &mut Dice, draft: &mut Draft) {
        let at = self.signal;
        match dice.below(20) {
            0 => draft.event(at, Action::Sigquit, ""),
            1 | 2 => {
                draft.event(at, Action::Sigint, "");
                draft.event(at + dice.millis(SOON), Action::Sigint, "");
            }
            3 => {
                draft.event(at, Action::Drain, "");
                draft.event(at + dice.millis(SOON), Action::Undrain, "");
                draft.event(at + dice.millis(SOON) + dice.millis(SOON), Action::Sigterm, "");
            }
            4 => {
                draft.event(at, Action::Drain, "");
                draft.event(at + dice.millis(SOON), Action::Sigterm, "");
            }
            _ => draft.event(at, Action::Sigterm, ""),
        }
        // What befalls the worker or stops the process is over before the next such thing may begin.
        let (mut worker, mut stopped) = (false, false);
        for _ in 0..dice.below(EVENTS) {
            let action = dice.one_of(&self.actions);
            let stops = matches!(action, Action::Sigstop | Action::Sigcont);
            let again = action.is_worker() && std::mem::replace(&mut worker, true)
                || stops && std::mem::replace(&mut stopped, true);
            if !again {
                self.event(dice, draft, action);
            }
        }
    }

    fn event(&self, dice: &mut Dice, draft: &mut Draft, action: Action) {
        let at = self.moment(dice);
        let lasts = dice.one_of(&[1, 1_000, 10_000, 40_000, 120_000, 600_000]);
        let lasts = at + Duration::from_millis(lasts);
        let back = if dice.once_in(3) { String::new() } else { format!("back_after = \"{}\"", Span(lasts - at)) };
        let client = self.names[dice.below(u32::try_from(self.names.len()).expect("few clients")) as usize].clone();
        let ends =
            dice.one_of(&[["clients", "pod"], ["pod", "worker"], ["kubelet", "pod"], [client.0.as_str(), "pod"]]);
        let between = format!("between = [{:?}, {:?}]", ends[0], ends[1]);
        let of_client = format!("client = {:?}", client.0);
        match action {
            Action::Partition | Action::Heal => {
                draft.event(at, Action::Partition, &between);
                if !dice.once_in(4) {
                    draft.event(lasts, Action::Heal, &between);
                }
            }
            Action::Hold | Action::Release => {
                draft.event(at, Action::Hold, &between);
                draft.event(lasts, Action::Release, &between);
            }
            Action::Latency => {
                let latency = dice.one_of(&["2ms", "40ms", "500ms", "5s"]);
                draft.event(at, action, &format!("{between}\nlatency = \"{latency}\""));
            }
            Action::Rate => {
                let rate = dice.one_of(&["5KB/s", "50KB/s", "1MB/s"]);
                draft.event(at, action, &format!("{between}\nrate = \"{rate}\""));
            }
            Action::WorkerCrash | Action::WorkerHang | Action::WorkerDrain | Action::WorkerShutdown => {
                draft.event(at, action, &back);
            }
            Action::Sigstop | Action::Sigcont => {
                draft.event(at, Action::Sigstop, "");
                draft.event(lasts.min(at + Duration::from_secs(20)), Action::Sigcont, "");
            }
            Action::Notify if client.1 => {
                let count = 1 + dice.below(200);
                draft.event(at, action, &format!("{of_client}\ncount = {count}\nbytes = {}", 1 + dice.below(2_000)));
            }
            Action::Terminate => {
                let stays = if dice.once_in(3) { "\nstays_open = true" } else { "" };
                draft.event(at, action, &format!("{of_client}{stays}"));
            }
            Action::Garbage => draft.event(at, action, &of_client),
            // Orders to stop are drawn apart, and who does not listen is never notified.
            _ => {}
        }
    }
}
