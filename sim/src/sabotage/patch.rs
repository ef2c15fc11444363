//! Unified diffs, applied to the letter: what a hunk takes away and what it keeps must be in the file, in one place.
//!
//! Line numbers are for people: a hunk finds its place by its lines, so a change elsewhere in the file moves it and does not
//! break it. There is no fuzz: where the lines themselves have changed, somebody has to look whether the defect is still the
//! same one.

use std::path::{Component, Path};

/// A unified diff of existing files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    files: Vec<FilePatch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FilePatch {
    path: String,
    hunks: Vec<Hunk>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hunk {
    /// Its line `@@ … @@`.
    header: String,
    old: Vec<String>,
    new: Vec<String>,
}

/// A text that is no unified diff.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadPatch {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// A patch whose file has changed under it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}, hunk {hunk} ({header}): {why}")]
pub struct Misfit {
    /// The file.
    pub path: String,
    /// Which hunk of the file, from 1.
    pub hunk: usize,
    /// Its line `@@ … @@`.
    pub header: String,
    /// What does not fit.
    pub why: String,
}

impl Patch {
    /// Reads a diff. `first_line` is the number of its first line in the file that it is from.
    ///
    /// # Errors
    /// [`BadPatch`] at the first line that does not belong.
    pub fn parse(diff: &str, first_line: usize) -> Result<Patch, BadPatch> {
        let mut lines = diff.lines().zip(first_line..).peekable();
        let mut files = Vec::new();
        while let Some((text, line)) = lines.next() {
            let bad = |what| Err(BadPatch { line, what });
            if !text.starts_with("--- ") {
                return bad("expected `--- a/…`, the file that is changed");
            }
            let Some(path) = lines.next().and_then(|(text, _)| text.strip_prefix("+++ b/")) else {
                return bad("expected `+++ b/…` below it: the same file, from the workspace's root");
            };
            let mut hunks = Vec::new();
            while let Some((header, line)) = lines.next_if(|(text, _)| text.starts_with("@@ ")) {
                let Some((mut old_left, mut new_left)) = counts(header) else {
                    return Err(BadPatch { line, what: "expected `@@ -1,2 +1,2 @@`" });
                };
                let (mut old, mut new) = (Vec::new(), Vec::new());
                while old_left > 0 || new_left > 0 {
                    let (text, line) = lines.next().unwrap_or(("", line));
                    // Editors take the space off a line that is otherwise empty.
                    let (kind, rest) =
                        if text.is_empty() { (" ", "") } else { text.split_at_checked(1).unwrap_or((text, "")) };
                    let short = BadPatch { line, what: "the hunk has other lines than its `@@` line says" };
                    if kind != "+" {
                        old_left = old_left.checked_sub(1).ok_or(short.clone())?;
                        old.push(rest.to_owned());
                    }
                    if kind != "-" {
                        new_left = new_left.checked_sub(1).ok_or(short)?;
                        new.push(rest.to_owned());
                    }
                    if !matches!(kind, " " | "+" | "-") {
                        return Err(BadPatch { line, what: "expected a line that begins with a space, `-` or `+`" });
                    }
                }
                if old.is_empty() {
                    return Err(BadPatch { line, what: "a hunk without a line of the file has no place in it" });
                }
                hunks.push(Hunk { header: header.to_owned(), old, new });
            }
            if hunks.is_empty() {
                return bad("no hunk follows");
            }
            if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
                return bad("the path leaves the workspace");
            }
            files.push(FilePatch { path: path.to_owned(), hunks });
        }
        if files.is_empty() {
            return Err(BadPatch { line: first_line, what: "there is no diff" });
        }
        Ok(Patch { files })
    }

    /// The files that it changes, from the workspace's root.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }

    /// What the files become. `read` gives the text of a file that is there.
    ///
    /// # Errors
    /// [`Misfit`] at the first hunk that has no place, or more than one.
    pub fn apply(&self, read: impl Fn(&str) -> Option<String>) -> Result<Vec<(&str, String)>, Misfit> {
        self.files.iter().map(|file| Ok((file.path.as_str(), file.apply(read(&file.path))?))).collect()
    }
}

impl FilePatch {
    fn apply(&self, text: Option<String>) -> Result<String, Misfit> {
        let misfit = |index: usize, why| Misfit {
            path: self.path.clone(),
            hunk: index + 1,
            header: self.hunks[index].header.clone(),
            why,
        };
        let text = text.ok_or_else(|| misfit(0, "there is no such file".to_owned()))?;
        let mut lines: Vec<&str> = text.lines().collect();
        for (index, hunk) in self.hunks.iter().enumerate() {
            let place = hunk.place(&lines).map_err(|why| misfit(index, why))?;
            lines.splice(place..place + hunk.old.len(), hunk.new.iter().map(String::as_str));
        }
        Ok(lines.join("\n") + "\n")
    }
}

impl Hunk {
    /// The one place in the file where its old lines are.
    fn place(&self, lines: &[&str]) -> Result<usize, String> {
        let mut places = lines.windows(self.old.len()).enumerate().filter(|(_, window)| *window == self.old.as_slice());
        match (places.next(), places.next()) {
            (Some((place, _)), None) => Ok(place),
            (Some(_), Some(_)) => Err("its lines are in the file more than once: it needs more context".to_owned()),
            (None, _) => {
                let gone = self.old.iter().find(|old| !lines.contains(&old.as_str()));
                Err(gone.map_or("its lines are not together any more".to_owned(), |gone| {
                    format!("there is no line `{}` any more", gone.trim())
                }))
            }
        }
    }
}

/// The numbers of lines in `@@ -1,2 +3,4 @@`: before and after.
fn counts(header: &str) -> Option<(usize, usize)> {
    let mut ranges = header.strip_prefix("@@ ")?.split(" @@").next()?.split(' ');
    let mut count = |sign| {
        let range = ranges.next()?.strip_prefix(sign)?;
        range.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok())
    };
    Some((count('-')?, count('+')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "one\ntwo\n\nthree\ntwo\nfour\n";

    fn diff(hunk: &str) -> String {
        format!("--- a/f\n+++ b/f\n{hunk}")
    }

    fn applied(hunk: &str) -> Result<String, String> {
        let patch = Patch::parse(&diff(hunk), 1).map_err(|bad| bad.to_string())?;
        let files = patch.apply(|path| (path == "f").then(|| FILE.to_owned())).map_err(|misfit| misfit.to_string())?;
        Ok(files[0].1.clone())
    }

    #[test]
    fn a_hunk_finds_its_place_by_its_lines_wherever_they_are() {
        assert_eq!(
            applied("@@ -90,2 +90,2 @@ fn x()\n three\n-two\n+TWO\n"),
            Ok("one\ntwo\n\nthree\nTWO\nfour\n".into())
        );
        assert_eq!(applied("@@ -1,3 +1,2 @@\n one\n-two\n\n"), Ok("one\n\nthree\ntwo\nfour\n".into()));
        assert_eq!(
            applied("@@ -4 +4,2 @@\n three\n+x\n@@ -6 +7 @@\n-four\n+4\n"),
            Ok("one\ntwo\n\nthree\nx\ntwo\n4\n".into())
        );
    }

    #[test]
    fn a_hunk_whose_lines_have_changed_does_not_apply_and_says_which_line() {
        let misfit = applied("@@ -1,2 +1,2 @@\n one\n-2\n+3\n").unwrap_err();
        assert_eq!(misfit, "f, hunk 1 (@@ -1,2 +1,2 @@): there is no line `2` any more");
        let moved = applied("@@ -1,2 +1,1 @@\n one\n-three\n").unwrap_err();
        assert!(moved.ends_with("its lines are not together any more"), "{moved}");
    }

    #[test]
    fn a_hunk_that_could_be_in_two_places_does_not_apply() {
        let twice = applied("@@ -2 +2 @@\n-two\n+2\n").unwrap_err();
        assert!(twice.ends_with("it needs more context"), "{twice}");
    }

    #[test]
    fn a_text_that_is_no_diff_is_refused_at_its_line() {
        for (text, line) in [
            ("", 7),
            ("hello\n", 7),
            ("--- a/f\n", 7),
            ("--- a/f\n+++ b/f\n", 7),
            ("--- a/f\n+++ b/../f\n@@ -1 +1 @@\n-a\n+b\n", 7),
            ("--- a/f\n+++ b/f\n@@ nothing @@\n-a\n", 9),
            ("--- a/f\n+++ b/f\n@@ -1,2 +1 @@\n-a\n+b\n+c\n", 12),
            ("--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+b\n", 9),
            ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n", 11),
        ] {
            assert_eq!(Patch::parse(text, 7).map_err(|bad| bad.line), Err(line), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_gone_is_told() {
        let patch = Patch::parse(&diff("@@ -1 +1 @@\n-one\n+1\n"), 1).unwrap();
        assert!(patch.apply(|_| None).unwrap_err().to_string().contains("no such file"));
    }
}
