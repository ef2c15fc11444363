//! Scenarios that reached something which is rarely reached, kept in a folder: from these a search draws further.
//!
//! What a run reached is told by what came together in it ([`together`](crate::judge::coverage::together)): a connection that
//! waits for its worker is nothing rare, nor is a wall; both of one connection may be. A run with a pair that no run before it
//! had is taken in. A search takes them in at the end of each [`GENERATION`] of seeds, in the order of the seeds, so what is
//! drawn from a seed follows from the folder as it was at first and from the range of seeds, and not from how many
//! processors look.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::text::Draft;
use crate::judge::coverage::Mark;

/// So many seeds are drawn from the same corpus.
pub(super) const GENERATION: usize = 500;
/// What took longer is not changed further: that takes as long each time.
pub(super) const MAX_EVENTS: usize = 2_000;
/// What a folder may hold; beyond these nothing is taken in.
const MAX_FILES: usize = 10_000;

/// The folder's scenarios, in the order of their names, and behind them those that were taken in.
#[derive(Debug)]
pub(super) struct Corpus {
    folder: PathBuf,
    pub(super) drafts: Vec<Draft>,
    seen: BTreeSet<(Mark, Mark)>,
}

/// A run that may be taken in.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) seed: u64,
    pub(super) text: String,
    pub(super) reached: BTreeSet<(Mark, Mark)>,
}

impl Corpus {
    /// Reads what the folder holds; nothing, where there is none.
    ///
    /// # Errors
    /// What the system says. A file that is no TOML is one.
    pub(super) fn open(folder: &Path) -> io::Result<Corpus> {
        let mut paths: Vec<PathBuf> = match fs::read_dir(folder) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        let read = |path: &PathBuf| {
            let draft = Draft::read(&fs::read_to_string(path)?);
            draft.map(Draft::scene).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
        };
        let drafts = paths.iter().map(read).collect::<io::Result<_>>()?;
        Ok(Corpus { folder: folder.to_owned(), drafts, seen: BTreeSet::new() })
    }

    /// What is new of what a run reached.
    pub(super) fn new_of(&self, reached: &BTreeSet<(Mark, Mark)>) -> BTreeSet<(Mark, Mark)> {
        reached.difference(&self.seen).copied().collect()
    }

    /// Takes in those that reached something new, and keeps them in the folder.
    ///
    /// # Errors
    /// One can't be written.
    pub(super) fn take_in(&mut self, mut candidates: Vec<Candidate>) -> io::Result<()> {
        candidates.sort_by_key(|candidate| candidate.seed);
        for Candidate { seed, text, reached } in candidates {
            if reached.is_subset(&self.seen) || self.drafts.len() >= MAX_FILES {
                continue;
            }
            self.seen.extend(reached);
            fs::create_dir_all(&self.folder)?;
            fs::write(self.folder.join(format!("seed-{seed}.toml")), &text)?;
            self.drafts.extend(Draft::read(&text).map(Draft::scene));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::draw;
    use super::*;
    use crate::judge::coverage::Clock;

    fn candidate(seed: u64, reached: &[Clock]) -> Candidate {
        let reached = reached.iter().map(|clock| (Mark::Fired(*clock), Mark::Fired(*clock))).collect();
        Candidate { seed, text: draw::scenario(seed), reached }
    }

    #[test]
    fn what_reached_something_new_is_taken_in_in_the_order_of_the_seeds_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("corpus");
        let mut corpus = Corpus::open(&folder).unwrap();
        assert!(corpus.drafts.is_empty());
        let candidates = || {
            vec![
                candidate(9, &[Clock::IdleGrace]),
                candidate(7, &[Clock::IdleGrace, Clock::DueTime]),
                candidate(8, &[Clock::CloseLinger]),
            ]
        };
        corpus.take_in(candidates()).unwrap();
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["seed-7.toml", "seed-8.toml"]);
        let known = BTreeSet::from([(Mark::Fired(Clock::DueTime), Mark::Fired(Clock::DueTime))]);
        assert!(corpus.new_of(&known).is_empty());
        assert_eq!(Corpus::open(&folder).unwrap().drafts, corpus.drafts);
    }

    #[test]
    fn a_file_that_is_no_toml_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bad.toml"), "[[client").unwrap();
        fs::write(folder.path().join("notes.txt"), "anything").unwrap();
        let error = Corpus::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("bad.toml"), "{error}");
    }

    #[test]
    fn a_file_of_the_suite_is_a_scene_without_what_it_expects() {
        let text = "title = 't'\nwhy = 'w'\n[[event]]\nat = '1s'\ndo = 'sigkill'\n[[event]]\nat = '2s'\ndo = 'sigterm'\n\
                    [expect]\nexit = { code = 0 }\n";
        let scene = Draft::read(text).unwrap().scene().to_string();
        assert!(scene.contains("sigterm") && !scene.contains("sigkill") && !scene.contains("expect"), "{scene}");
    }
}
