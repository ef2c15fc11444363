//! `same-seed-same-run`: the same scenario and seed give the same event log, byte for byte.
//!
//! Takes the logs of two runs as lines ([`crate::cast::history::History::to_lines`]); the second should come from another
//! process, where hash seeds, addresses and threads are others.

use super::Violation;
use crate::scenario::model::Promise;

/// At most one violation: the first line that differs, which is also the index of its entry.
pub fn check(first: &str, second: &str) -> Vec<Violation> {
    if first == second {
        return Vec::new();
    }
    // `split`, not `lines`: a missing newline at the end is a difference too.
    let (mut ours, mut theirs) = (first.split('\n'), second.split('\n'));
    let mut index = 0;
    let (our, their) = loop {
        match (ours.next(), theirs.next()) {
            (our, their) if our.is_some() && our == their => index += 1,
            differing => break differing,
        }
    };
    let words = |line: Option<&str>| match line {
        None | Some("") => "nothing more".to_owned(),
        Some(line) => format!("`{line}`"),
    };
    let what = format!("line {} differs: the first run has {}, the second {}", index + 1, words(our), words(their));
    vec![Violation { promise: Promise::SameSeedSameRun, what, evidence: vec![index] }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logs_hold() {
        assert_eq!(check("", ""), []);
        assert_eq!(check("a\nb\n", "a\nb\n"), []);
    }

    #[test]
    fn the_first_line_that_differs_is_named() {
        let broken = check("a\nb\nc\n", "a\nx\ny\n");
        assert_eq!(broken[0].what, "line 2 differs: the first run has `b`, the second `x`");
        assert_eq!(broken[0].evidence, [1]);
    }

    #[test]
    fn a_run_that_goes_on_differs_from_one_that_does_not() {
        assert_eq!(check("a\n", "a\nb\n")[0].what, "line 2 differs: the first run has nothing more, the second `b`");
        assert_eq!(check("a\nb\n", "a\n")[0].what, "line 2 differs: the first run has `b`, the second nothing more");
        assert_eq!(check("a\n", "a").len(), 1);
    }
}
