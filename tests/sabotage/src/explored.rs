//! Whether the explorer, which knows of no sabotage, comes upon each, and how many drawn scenarios it needs for that.
//!
//! Without any sabotage it must find nothing in as many. What it can't find is no fault of the suite's: a patch may say what it
//! would need, and then it need not find it; the table says so.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use owo_colors::OwoColorize;
use serde::Deserialize;

use crate::patch::Sabotage;
use crate::workshop::Workshop;

/// What it needed, as it is kept.
pub(crate) const TABLE: &str = "tests/sabotage/explored.md";
/// A search and its build may take so long; one that takes longer has found nothing.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What is asked of the explorer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// How many scenarios it draws at most.
    pub(crate) seeds: u64,
    /// From a corpus that is empty at first, or afresh each time.
    pub(crate) steered: bool,
}

/// What `sim explore --format json` says, as much as is needed here.
#[derive(Debug, Deserialize)]
pub(crate) struct Explored {
    finds: Vec<Find>,
}

#[derive(Clone, Debug, Deserialize)]
struct Find {
    promise: String,
    drawn_from: u64,
}

/// Lets it look for each, one after the other, and prints what it found. Returns whether it found all.
///
/// # Errors
/// It found something where there is nothing, or can't be built or run.
pub(crate) fn show(
    workshop: &Workshop,
    sabotages: &[&Sabotage],
    asked: Asked,
    table: Option<&Path>,
) -> Result<bool, String> {
    let first = |until| workshop.explore(asked, until).map(|explored| explored.first());
    if let Some(Find { promise, drawn_from }) = first(Instant::now() + LIMIT)? {
        return Err(format!("without any sabotage seed {drawn_from} breaks {promise}"));
    }
    let widest = sabotages.iter().map(|sabotage| sabotage.name.len()).max().unwrap_or_default();
    let mut rows = "| sabotage | breaks | seed | the explorer would need |\n|---|---|---|---|\n".to_owned();
    let (mut missed, mut beyond) = (0, 0);
    for sabotage in sabotages {
        workshop.apply(&sabotage.path)??;
        let until = Instant::now() + LIMIT;
        let found = first(until);
        workshop.restore(&sabotage.path)?;
        let name = &sabotage.name;
        if let Some(Find { promise, drawn_from }) = found? {
            anstream::println!("{}  {name:<widest$}  {promise}, seed {drawn_from}", "found ".green());
            rows += &format!("| {name} | {promise} | {drawn_from} |  |\n");
        } else {
            let seeds = asked.seeds;
            let needs = sabotage.explorer_needs.as_deref();
            *if needs.is_none() { &mut missed } else { &mut beyond } += 1;
            let word = if needs.is_none() { "MISSED" } else { "beyond" };
            let needs = needs.unwrap_or_default();
            anstream::println!("{}  {name:<widest$}  nothing in {seeds} seeds; needs {needs}", word.red().bold());
            rows += &format!("| {name} |  | over {seeds} | {needs} |\n");
        }
    }
    let found = sabotages.len() - missed - beyond;
    anstream::println!("\n{found} found, {beyond} beyond it, {missed} missed");
    if let Some(table) = table {
        fs::write(table, rows).map_err(|error| format!("cannot write {TABLE}: {error}"))?;
    }
    Ok(missed == 0)
}

impl Explored {
    /// The find of the smallest seed.
    fn first(self) -> Option<Find> {
        self.finds.into_iter().min_by_key(|find| find.drawn_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_find_of_the_smallest_seed_is_the_first() {
        let find = |promise: &str, seed| format!(r#"{{"promise": "{promise}", "what": "w", "drawn_from": {seed}}}"#);
        let report = format!(r#"{{"runs": 9, "finds": [{}, {}]}}"#, find("never-cut", 7), find("bounded-exit", 3));
        let explored: Explored = serde_json::from_str(&report).unwrap();
        assert_eq!(explored.first().map(|find| (find.promise, find.drawn_from)), Some(("bounded-exit".to_owned(), 3)));
        assert!(serde_json::from_str::<Explored>(r#"{"finds": []}"#).unwrap().first().is_none());
    }
}
