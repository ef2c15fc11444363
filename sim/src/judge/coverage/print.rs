//! What was reached, printed: a matrix of activities and phases, and columns of counts.

use std::fmt::Write as _;

use owo_colors::{OwoColorize, Style};
use serde::Serialize;

use super::race::Race;
use super::{Coverage, Mark, PHASES, impossible};
use crate::cast::pod::report::Activity;

/// Columns of counts beside each other.
const COLUMNS: usize = 2;

/// In words. What can't be reached is a dash, what was never reached a zero.
pub fn text(coverage: &Coverage, colour: bool) -> String {
    let red = |text: String, zero: bool| {
        if colour && zero { text.style(Style::new().red().bold()).to_string() } else { text }
    };
    let mut out = String::from("reached\n");
    let _ = write!(out, "  {:<20}", "");
    for phase in PHASES {
        let _ = write!(out, "  {:>9}", phase.name());
    }
    out.push('\n');
    for activity in Activity::ALL {
        let _ = write!(out, "  {:<20}", activity.name());
        for phase in PHASES {
            let reached = coverage.reached(Mark::Doing(activity, phase));
            let cell = match impossible(activity, phase) {
                Some(_) if reached == 0 => "-".to_owned(),
                _ => reached.to_string(),
            };
            let _ = write!(out, "  {}", red(format!("{cell:>9}"), cell == "0"));
        }
        out.push('\n');
    }
    let rest: Vec<Mark> = Mark::all().into_iter().filter(|mark| !matches!(mark, Mark::Doing(..))).collect();
    let rows = rest.len().div_ceil(COLUMNS);
    let width = rest.iter().map(|mark| mark.name().chars().count()).max().unwrap_or_default();
    for row in 0..rows {
        for mark in rest.iter().skip(row).step_by(rows) {
            let reached = coverage.reached(*mark);
            let _ = write!(out, "  {:<width$}  {}", mark.name(), red(format!("{reached:>6}"), reached == 0));
        }
        out.push('\n');
    }
    let missing = coverage.missing();
    let _ = writeln!(out, "  {} of {} reached", Mark::all().len() - missing.len(), Mark::all().len());
    out
}

/// The orders of races that were seen, and how often, a line each.
pub fn orders(coverage: &Coverage) -> Vec<String> {
    let seen = Race::ALL.into_iter().map(|race| (race, coverage.reached(Mark::Race(race))));
    seen.filter(|(_, times)| *times > 0).map(|(race, times)| format!("{times:>6} × {}", race.name())).collect()
}

/// One count, for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Json {
    /// What.
    pub reached: String,
    /// How often.
    pub times: u64,
}

/// For machines: everything that must be reached.
pub fn json(coverage: &Coverage) -> Vec<Json> {
    let one = |mark: Mark| Json { reached: mark.name(), times: coverage.reached(mark) };
    Mark::all().into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Run;
    use super::*;

    #[test]
    fn only_orders_that_were_seen_are_named() {
        let run = Run::default().doing(1.0, 1, Activity::Idle).term(60.0);
        assert_eq!(orders(&run.coverage()), [""; 0]);
    }

    #[test]
    fn a_count_a_zero_and_a_dash_are_told_apart() {
        let run = Run::default().doing(1.0, 1, Activity::Idle).term(60.0);
        let text = text(&run.coverage(), false);
        let idle = text.lines().find(|line| line.trim_start().starts_with("idle ")).unwrap();
        let cells: Vec<&str> = idle.split_whitespace().collect();
        assert_eq!(cells, ["idle", "1", "0", "0", "-", "-"]);
        let last = text.lines().last().unwrap();
        assert_eq!(last.trim(), format!("1 of {} reached", Mark::all().len()));
    }
}
