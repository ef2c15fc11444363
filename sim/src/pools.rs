//! What an application sees of a rollout, by its pool: one standard rollout for each pool and each way to drain.
//!
//! Three pods behind a Service that switches a second after a deletion; eight callers on a pool of eight connections, one job in
//! four a transaction, no job done again. What makes a request fail that way is told apart: a request that never ran can safely be
//! sent again, and of one that ran and was not answered nobody knows.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::cast::pod::Pod;
use crate::cast::run::{self, EngineName};
use crate::parallel;
use crate::scenario::{self, PoolKind, Purpose, Scenario};
use crate::story::rollout::Rollout;

/// A way to drain: its name, and what of the standard rollout is its own.
struct Front {
    name: &'static str,
    drain: &'static str,
    /// Of the pools that can be told how old a connection may become.
    lifetime: Option<&'static str>,
}

const FRONTS: [Front; 4] = [
    Front { name: "idle-aware", drain: "lame_duck = '2s'\nidle_grace = '6s'", lifetime: None },
    Front {
        name: "idle-aware, twice the lifetime",
        drain: "lame_duck = '2s'\nidle_grace = '14s'",
        lifetime: Some("4s"),
    },
    Front {
        name: "flat",
        drain: "drain_policy = 'flat'\nlame_duck = '2s'\nidle_grace = '6s'\nhandover_drain_timeout = '6s'",
        lifetime: None,
    },
    Front {
        name: "unbounded",
        drain: "drain_policy = 'unbounded'\nlame_duck = '2s'\nidle_grace = '6s'",
        lifetime: None,
    },
];

/// The pools that retire connections by their age.
const fn has_lifetime(pool: PoolKind) -> bool {
    !matches!(pool, PoolKind::None | PoolKind::Asyncpg | PoolKind::NodePostgres)
}

/// What the applications saw of all rollouts of one pool and one way to drain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Jobs.
    pub jobs: usize,
    /// Those that failed.
    pub failed: usize,
    /// Of these, those of which something ran, so that nobody knows whether they are done.
    pub in_doubt: usize,
    /// What their callers were told, and how often.
    pub told: BTreeMap<String, usize>,
    /// The longest job, in milliseconds.
    pub slowest_ms: u128,
    /// The most failed jobs of one rollout.
    pub most: usize,
    /// The fewest.
    pub fewest: usize,
}

/// What every pool saw, by the way to drain.
#[derive(Clone, Debug, Serialize)]
pub struct Pools {
    /// How many rollouts each cell is made of.
    pub seeds: u64,
    /// By the pool and the way to drain.
    pub cells: BTreeMap<&'static str, BTreeMap<&'static str, Cell>>,
}

impl Pools {
    /// Lets these pools go through the standard rollout, once under each seed from 1 to this one. Calls `done` after each.
    pub fn roll(pod: &Arc<dyn Pod>, pools: &[PoolKind], seeds: u64, done: impl Fn() + Sync) -> Pools {
        let jobs: Vec<(PoolKind, &Front, u64)> = pools
            .iter()
            .copied()
            .flat_map(|pool| FRONTS.iter().map(move |front| (pool, front)))
            .filter(|(pool, front)| front.lifetime.is_none() || has_lifetime(*pool))
            .flat_map(|(pool, front)| (1..=seeds).map(move |seed| (pool, front, seed)))
            .collect();
        let runs = parallel::each(jobs, |(pool, front, seed)| {
            let scenario = standard(pool, front);
            let run = run::run(pod, &scenario, &run::settings(&scenario), seed, EngineName::default());
            done();
            (pool, front.name, cell(&Rollout::of(&run.history)))
        });
        let mut cells: BTreeMap<&'static str, BTreeMap<&'static str, Cell>> = BTreeMap::new();
        for (pool, front, cell) in runs {
            let row = cells.entry(pool.name()).or_default();
            row.entry(front).and_modify(|sum| sum.add(&cell)).or_insert(cell);
        }
        Pools { seeds, cells }
    }

    /// How many rollouts that takes.
    pub fn runs(pools: &[PoolKind], seeds: u64) -> u64 {
        let with_lifetime = pools.iter().filter(|pool| has_lifetime(**pool)).count() as u64;
        seeds * (pools.len() as u64 * (FRONTS.len() as u64 - 1) + with_lifetime)
    }

    /// As a table of Markdown, which reads well as it is, too.
    pub fn markdown(&self) -> String {
        let heads = ["pool"].into_iter().chain(FRONTS.iter().map(|front| front.name));
        let mut rows: Vec<Vec<String>> = vec![heads.map(str::to_owned).collect()];
        for (pool, row) in &self.cells {
            let cells = FRONTS.iter().map(|front| row.get(front.name).map_or_else(|| "–".to_owned(), Cell::to_string));
            rows.push([format!("`{pool}`")].into_iter().chain(cells).collect());
        }
        let widths: Vec<usize> = (0..=FRONTS.len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
            .collect();
        let mut text = String::new();
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
            let _ = writeln!(text, "|{}", cells.collect::<String>());
            if number == 0 {
                let rules = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2)));
                let _ = writeln!(text, "|{}", rules.collect::<String>());
            }
        }
        text
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cell { failed, in_doubt, fewest, most, slowest_ms, .. } = self;
        match (failed, fewest == most) {
            (0, _) => f.write_str("0")?,
            (_, true) => write!(f, "{most}")?,
            (_, false) => write!(f, "{fewest} to {most}")?,
        }
        if *in_doubt > 0 {
            write!(f, ", {in_doubt} in doubt")?;
        }
        let slowest = Duration::from_millis(u64::try_from(*slowest_ms).unwrap_or(u64::MAX));
        if slowest > Duration::from_millis(500) {
            write!(f, " (slowest {:.1} s)", slowest.as_secs_f64())
        } else {
            Ok(())
        }
    }
}

impl Cell {
    fn add(&mut self, other: &Cell) {
        self.jobs += other.jobs;
        self.failed += other.failed;
        self.in_doubt += other.in_doubt;
        other.told.iter().for_each(|(code, count)| *self.told.entry(code.clone()).or_default() += count);
        self.slowest_ms = self.slowest_ms.max(other.slowest_ms);
        self.most = self.most.max(other.most);
        self.fewest = self.fewest.min(other.fewest);
    }
}

fn cell(rollout: &Rollout) -> Cell {
    let mut cell = Cell { jobs: rollout.jobs.len(), ..Cell::default() };
    for job in &rollout.jobs {
        cell.slowest_ms = cell.slowest_ms.max(job.ended.at.since(job.began).as_millis());
        let Some(told) = job.told else { continue };
        cell.failed += 1;
        cell.in_doubt += usize::from(job.tags.iter().any(|tag| rollout.began.contains_key(tag)));
        *cell.told.entry(told.to_owned()).or_default() += 1;
    }
    (cell.fewest, cell.most) = (cell.failed, cell.failed);
    cell
}

/// The rollout that all go through.
fn standard(pool: PoolKind, front: &Front) -> Scenario {
    let lifetime = front.lifetime.map_or(String::new(), |lifetime| format!("max_lifetime = '{lifetime}'\n"));
    let text = format!(
        "title = 'What {pool} sees of a rollout'\n\
         [pod]\ntermination_grace = '20s'\nreadiness_period = '1s'\n\
         [deployment]\nreplicas = 3\nmax_surge = 1\nmax_unavailable = 0\n\
         [drain]\n{}\n\
         [[application]]\nname = 'app'\npool = '{pool}'\nsize = 8\ncallers = 8\nthink = '22ms'\nuntil = '45s'\n{lifetime}\
         jobs = [{{ query = '1ms' }}, {{ query = '1ms' }}, {{ query = '5ms' }}, \
         {{ repeat = 1, steps = ['begin', {{ insert = 1 }}, 'commit'] }}]\n\
         [[event]]\nat = '10s'\ndo = 'rollout'\n",
        front.drain
    );
    scenario::parse_for(Purpose::Tried, "standard rollout", &text).unwrap_or_else(|bad| panic!("{}", bad.render(false)))
}
