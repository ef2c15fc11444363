//! Which promises each of some control planes keeps: a row for each promise, a column for each control plane, and below them in
//! which files what broke.

use std::collections::BTreeMap;
use std::fmt;

use super::Line;
use crate::cast::pod::Report;
use crate::judge::gate::{Failure, Verdict};
use crate::scenario::Promise;

/// What came out for each control plane.
#[derive(Clone, Debug)]
pub struct Table {
    /// In the order in which they were named.
    pub columns: Vec<Column>,
}

/// What came out for one.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// For each file.
    pub lines: Vec<Line>,
}

/// What came out for one promise.
#[derive(Clone, Debug, Default)]
pub struct Finding<'a> {
    /// In how many files it was kept.
    pub kept: usize,
    /// In which it was broken, and how.
    pub broken: BTreeMap<&'a str, Vec<&'a Failure>>,
    /// In which it could not be judged, or not wholly.
    pub not_judged: Vec<&'a str>,
    /// For lack of what.
    pub lacks: Vec<Report>,
}

impl Table {
    /// The control plane of this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn column(&self, name: &str) -> &Column {
        self.columns.iter().find(|column| column.name == name).expect("one of this name was judged")
    }
}

impl Column {
    /// What came out for this promise.
    pub fn on(&self, promise: Promise) -> Finding<'_> {
        self.find(|broke| broke == promise.name(), Some(promise))
    }

    /// What came out for what the files expect besides.
    pub fn on_expectations(&self) -> Finding<'_> {
        self.find(|broke| broke.starts_with("expect."), None)
    }

    /// All that came out, by its name.
    fn rows(&self) -> impl Iterator<Item = (&'static str, Finding<'_>)> {
        let promises = self.promises().map(|promise| (promise.name(), self.on(promise)));
        promises.chain([("expectations", self.on_expectations())])
    }

    /// The promises that its files are about.
    fn promises(&self) -> impl Iterator<Item = Promise> + use<> {
        let several = self.lines.iter().any(|line| line.judgement.several);
        Promise::ALL.into_iter().filter(move |promise| several || !promise.is_of_deployment())
    }

    fn find(&self, is_it: impl Fn(&str) -> bool, promise: Option<Promise>) -> Finding<'_> {
        let mut finding = Finding::default();
        for judgement in self.lines.iter().map(|line| &line.judgement) {
            if promise.is_some_and(Promise::is_of_deployment) && !judgement.several {
                continue;
            }
            let failures = match &judgement.verdict {
                Verdict::Pass => &[],
                Verdict::Fail(failures) => failures.as_slice(),
                Verdict::NotSupported(_) => continue,
            };
            let broken: Vec<&Failure> = failures.iter().filter(|failure| is_it(&failure.broke)).collect();
            let lacks = judgement.not_judged.iter().find(|(other, _)| Some(*other) == promise);
            if !broken.is_empty() {
                finding.broken.insert(&judgement.file, broken);
            } else if let Some((_, lacks)) = lacks {
                finding.not_judged.push(&judgement.file);
                finding.lacks.clone_from(lacks);
            } else {
                finding.kept += 1;
            }
        }
        finding
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (broken, not_judged) = (self.broken.len(), self.not_judged.len());
        let all = self.kept + broken + not_judged;
        let lacks = self.lacks.iter().map(|lack| format!("no {}", lack.name())).collect::<Vec<_>>().join(", ");
        match (broken, not_judged) {
            (0, 0) => f.write_str("kept"),
            (0, _) => write!(f, "not judged: {lacks}"),
            (_, 0) => write!(f, "broken in {broken} of {all}"),
            _ => write!(f, "broken in {broken} of {all}, else not judged: {lacks}"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.columns.first() else { return Ok(()) };
        let heads: Vec<&str> = first.promises().map(Promise::name).chain(["expectations"]).collect();
        let cells = |column: &Column| -> Vec<String> {
            let cells: Vec<String> = column.rows().map(|(_, finding)| finding.to_string()).collect();
            let cells = [column.name.clone()].into_iter().chain(cells);
            let width = cells.clone().map(|cell| cell.len()).max().unwrap_or_default();
            cells.map(|cell| format!("  {cell:<width$}")).collect()
        };
        let columns: Vec<Vec<String>> = self.columns.iter().map(cells).collect();
        let width = heads.iter().map(|head| head.len()).max().unwrap_or_default();
        for (row, head) in [""].iter().chain(&heads).enumerate() {
            let cells: String = columns.iter().map(|column| column[row].as_str()).collect();
            writeln!(f, "{}", format!("{head:<width$}{cells}").trim_end())?;
        }
        for column in &self.columns {
            for (name, finding) in column.rows().filter(|(_, finding)| !finding.broken.is_empty()) {
                writeln!(f, "\n{} breaks {name} in", column.name)?;
                for (file, failures) in finding.broken {
                    let more = match failures.len() - 1 {
                        0 => String::new(),
                        more => format!(" (and {more} more)"),
                    };
                    writeln!(f, "  {file}: {}{more}", failures[0].what)?;
                }
            }
        }
        Ok(())
    }
}
