//! What is wrong with a scenario file, all of it at once.
//!
//! Each [`Problem`] says what is wrong, where, and what to write instead. It is a miette diagnostic, so any miette handler can
//! show it; [`BadScenario::render`] is how `sim` does.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

/// A scenario file with at least one mistake.
#[derive(Clone, Debug)]
pub struct BadScenario {
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

/// One mistake in a scenario file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    message: String,
    /// Where it is and what to say there. The first is the mistake itself, others are what it disagrees with.
    labels: Vec<(Range<usize>, String)>,
    help: Option<String>,
}

/// Why a file gave no scenario.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says, as text.
        error: String,
    },
    /// The file can be read and is no scenario.
    #[error(transparent)]
    Bad(#[from] BadScenario),
}

/// More problems than this are counted, not shown: nobody reads on, and a file of noise must not print without end.
const SHOWN: usize = 100;
/// Nor are any behind this many bytes: each shows its whole line, and a line may be all of the file.
const PAGE_BYTES: usize = 256 * 1024;

/// Wide enough for most lines of a scenario, and for a terminal with something beside it.
const WIDTH: usize = 110;

impl BadScenario {
    /// The mistakes of a file, in the order of the file.
    pub(super) fn new(file_name: &str, text: &str, mut problems: Vec<Problem>) -> BadScenario {
        for problem in &mut problems {
            problem.keep_within(text);
        }
        problems.sort_by_key(Problem::start);
        BadScenario { source: NamedSource::new(file_name, text.to_owned()), problems }
    }

    /// The file's name, as it was given.
    pub fn file_name(&self) -> &str {
        self.source.name()
    }

    /// Every mistake, in the order of the file. Never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Every mistake with its lines, a mark under the place, and the remedy. The last line counts them.
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_context_lines(1);
        let mut page = String::new();
        let mut left = self.problems.len();
        for problem in self.problems.iter().take(SHOWN) {
            if page.len() > PAGE_BYTES {
                break;
            }
            left -= 1;
            let shown = Shown { problem, source: &self.source };
            handler.render_report(&mut page, &shown).expect("writing to a string cannot fail");
            page.push('\n');
        }
        if left > 0 {
            page.push_str(&format!("… and {left} more\n"));
        }
        page.push_str(&format!("{self}\n"));
        page
    }
}

/// `3 errors in scenarios/a.toml`.
impl fmt::Display for BadScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let errors = if count == 1 { "error" } else { "errors" };
        write!(f, "{count} {errors} in {}", self.file_name())
    }
}

impl std::error::Error for BadScenario {}

impl Diagnostic for BadScenario {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

impl LoadError {
    /// What to print: [`BadScenario::render`], or one line.
    pub fn render(&self, colour: bool) -> String {
        match self {
            LoadError::Unreadable { .. } => format!("{self}\n"),
            LoadError::Bad(bad) => bad.render(colour),
        }
    }

    pub(super) fn unreadable(path: PathBuf, error: io::Error) -> LoadError {
        LoadError::Unreadable { path, error: error.to_string() }
    }
}

impl Problem {
    /// A mistake: `message` says what is wrong, `label` what should be `at` this place instead.
    pub(super) fn new(at: Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Problem {
        Problem { message: message.into(), labels: vec![(at, label.into())], help: None }
    }

    /// Points at another place that has to do with it.
    pub(super) fn and(mut self, at: Range<usize>, label: impl Into<String>) -> Problem {
        self.labels.push((at, label.into()));
        self
    }

    /// Adds the remedy, where the label isn't one.
    pub(super) fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where: a range of bytes of the file.
    pub fn span(&self) -> Range<usize> {
        self.labels.first().map_or(0..0, |(at, _)| at.clone())
    }

    /// What the mark under the place says.
    pub fn label(&self) -> &str {
        self.labels.first().map_or("", |(_, label)| label)
    }

    /// The remedy, where the label isn't one already.
    pub fn remedy(&self) -> Option<&str> {
        self.help.as_deref()
    }

    fn start(&self) -> usize {
        self.span().start
    }

    /// Puts every mark inside the text, on whole characters of one line: a mark over many lines shows nothing.
    fn keep_within(&mut self, text: &str) {
        for (at, _) in &mut self.labels {
            let start = text.floor_char_boundary(at.start);
            let end = text.ceil_char_boundary(at.end.max(start));
            let line = text[start..end].find(['\n', '\r']).map_or(end, |newline| start + newline);
            *at = start..line;
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().enumerate().map(|(i, (at, label))| {
            let (label, at) = (Some(label.clone()), at.clone());
            if i == 0 { LabeledSpan::new_primary_with_span(label, at) } else { LabeledSpan::new_with_span(label, at) }
        })))
    }
}

/// A problem together with the text it is about.
#[derive(Debug)]
struct Shown<'a> {
    problem: &'a Problem,
    source: &'a NamedSource<String>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Diagnostic::help(self.problem)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.problem.labels()
    }
}
