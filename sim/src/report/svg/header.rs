//! What concerns every lane: the moments that everybody feels, the phases, the times.

use std::time::Duration;

use lastcall_core::Time;

use super::grid::Grid;
use super::ink::{Ink, Slots, number, width_of, width_of_bold};
use super::phases::{Phases, STRIP};
use super::{LaneAt, MARGIN, folds};
use crate::report::html::Escaped;
use crate::report::picture::{Picture, Rule, RuleKind, brief_from};

/// Rows of labels above the phases, at most. What finds no room in them has its line and its details.
const MOST_ROWS: usize = 6;
const ROW: f64 = 17.0;
const TIMES: f64 = 18.0;

/// What stands above the lanes.
#[derive(Debug)]
pub(super) struct Header<'a> {
    picture: &'a Picture,
    grid: &'a Grid<'a>,
    phases: Phases<'a>,
    /// The place of each rule's label, if it has one.
    tags: Vec<Option<Tag>>,
    /// Where the phases begin.
    base: f64,
}

/// Where a label stands.
#[derive(Debug)]
struct Tag {
    row: usize,
    x: f64,
}

impl<'a> Header<'a> {
    /// That of a picture which begins at `top`.
    pub(super) fn of(picture: &'a Picture, grid: &'a Grid<'a>, top: f64) -> Header<'a> {
        let tags = tags(picture, grid);
        let rows = tags.iter().flatten().map(|tag| tag.row + 1).max().unwrap_or_default();
        Header { picture, grid, phases: Phases::of(picture, grid), tags, base: top + rows as f64 * ROW }
    }

    /// Where the row of the times begins.
    fn times(&self) -> f64 {
        self.base + self.phases.height
    }

    /// Where it ends, and the lanes begin.
    pub(super) fn end(&self) -> f64 {
        self.times() + TIMES
    }

    /// The phases, which reach down behind the lanes, the times, what is left out of them, and what only begins.
    pub(super) fn draw(&self, ink: &mut Ink, lanes: &[LaneAt]) {
        let bottom = lanes.last().map_or(self.end(), |last| last.bottom);
        self.phases.draw(ink, self.grid, self.base, (self.end(), bottom));
        folds::draw(ink, self.picture, self.grid, (self.times(), self.end()));
        for (x, label) in ticks(self.picture, self.grid) {
            ink.text("tick", x, self.times() + 13.0, "middle", &label);
        }
        self.draw_lines(ink, lanes, |kind| !kind.is_over());
    }

    /// The lines of these moments, through the strip of the phases and through the lanes, but not through what stands beside or
    /// above these.
    fn draw_lines(&self, ink: &mut Ink, lanes: &[LaneAt], is_meant: impl Fn(RuleKind) -> bool) {
        for (rule, tag) in self.picture.rules.iter().zip(&self.tags).filter(|(rule, _)| is_meant(rule.kind)) {
            let (class, x) = (class(rule.kind), number(self.grid.x(rule.at)));
            let from = tag.as_ref().map_or(self.base, |tag| self.base - tag.row as f64 * ROW - 2.0);
            // What only begins in the middle of a phase would cross its name.
            let strip = if rule.kind.is_over() { self.base + STRIP } else { self.base };
            let line = |(from, to): (f64, f64)| format!("M{x} {}V{}", number(from), number(to));
            let parts = lanes.iter().map(|lane| (lane.y, lane.bottom));
            let lines: String = std::iter::once((from, strip)).chain(parts).map(line).collect();
            ink.add(format_args!("<path class=\"rule r-{class}\" d=\"{lines}\"/>\n"));
        }
    }

    /// The moments that concern every lane, over the lanes.
    pub(super) fn draw_rules(&self, ink: &mut Ink, lanes: &[LaneAt]) {
        ink.open("rules", "moments that concern every lane");
        self.draw_lines(ink, lanes, RuleKind::is_over);
        // No line crosses a tag.
        for (rule, tag) in self.picture.rules.iter().zip(&self.tags) {
            if let Some(tag) = tag {
                let y = self.base - (tag.row + 1) as f64 * ROW;
                let shape = tag.shape(rule, y);
                ink.item(true, self.grid.x(rule.at), &rule.note, format_args!("{shape}"));
            }
        }
        ink.close();
    }
}

impl Tag {
    fn shape(&self, rule: &Rule, y: f64) -> String {
        let (class, wide) = (class(rule.kind), tag_width(&rule.label));
        let [x, wide, middle, top, text] = [self.x - wide / 2.0, wide, self.x, y, y + 11.5].map(number);
        format!(
            "<rect class=\"tag r-{class}\" x=\"{x}\" y=\"{top}\" width=\"{wide}\" height=\"{}\" rx=\"3\"/><text \
             class=\"tag-text r-{class}\" x=\"{middle}\" y=\"{text}\" text-anchor=\"middle\">{}</text>",
            number(ROW - 2.0),
            Escaped(&rule.label),
        )
    }
}

/// How wide a rule's tag is: its text is bold.
fn tag_width(label: &str) -> f64 {
    width_of_bold(label, 11.0) + 8.0
}

/// The place of each rule's label.
fn tags(picture: &Picture, grid: &Grid) -> Vec<Option<Tag>> {
    let mut slots: Vec<Slots> = (0..MOST_ROWS).map(|_| Slots::default()).collect();
    let place = |rule: &Rule| {
        let half = tag_width(&rule.label) / 2.0;
        let x =
            grid.x(rule.at).clamp(grid.layout.left.max(MARGIN / 2.0) + half, grid.layout.width - MARGIN / 2.0 - half);
        let row = slots.iter_mut().position(|row| row.take(x - half - 1.0, x + half + 1.0))?;
        Some(Tag { row, x })
    };
    picture.rules.iter().map(place).collect()
}

/// The class of a rule's line and tag.
const fn class(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Signal => "signal",
        RuleKind::Exit => "exit",
        RuleKind::Killed => "killed",
        RuleKind::Wall => "wall",
        RuleKind::Bound => "bound",
        RuleKind::Due => "due",
        RuleKind::Broken => "broken",
    }
}

/// Times that stand above the lanes: those of rules and phases first, then as many as there is room for.
fn ticks(picture: &Picture, grid: &Grid) -> Vec<(f64, String)> {
    let rules = picture.rules.iter().filter(|rule| rule.kind != RuleKind::Broken).map(|rule| rule.at);
    let phases = picture.phases.iter().map(|span| span.from);
    let ends = picture.axis.pieces.iter().flat_map(|piece| [piece.from, piece.to]);
    let mut row = Slots::default();
    folds::block(picture, grid, &mut row);
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for at in rules.chain(phases).chain(ends).chain(steps(picture, grid)) {
        let label = brief_from(picture.axis.zero, at);
        let half = width_of(&label, 11.0) / 2.0;
        let x = grid.x(at).clamp(grid.layout.left.max(MARGIN / 2.0) + half, grid.layout.width - MARGIN / 2.0 - half);
        if row.take(x - half - TICK_GAP, x + half + TICK_GAP) {
            ticks.push((x, label));
        }
    }
    ticks
}

/// The room at both sides of a time.
const TICK_GAP: f64 = 4.0;

/// Steps of a clock.
const STEPS: [Duration; 14] = {
    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
    [
        Duration::from_millis(1),
        Duration::from_millis(10),
        Duration::from_millis(100),
        seconds(1),
        seconds(5),
        seconds(10),
        seconds(30),
        seconds(60),
        seconds(300),
        seconds(600),
        seconds(1_800),
        seconds(3_600),
        seconds(6 * 3_600),
        seconds(24 * 3_600),
    ]
};

/// How wide a step is at least.
const STEP_WIDTH: f64 = 56.0;

/// Whole seconds, minutes or hours where time is to scale.
fn steps(picture: &Picture, grid: &Grid) -> Vec<Time> {
    let zero = picture.axis.zero.unwrap_or(Time::EPOCH);
    let mut steps = Vec::new();
    for piece in picture.axis.pieces.iter().filter(|piece| !piece.is_folded) {
        let wide = grid.x(piece.to) - grid.x(piece.from);
        let lasts = piece.lasts().as_secs_f64();
        let Some(step) = STEPS.into_iter().find(|step| step.as_secs_f64() / lasts * wide >= STEP_WIDTH) else {
            continue;
        };
        let most = (grid.layout.axis() / STEP_WIDTH) as u32 + 2;
        // The first multiple of the step in the piece, before or behind the zero.
        let mut at = if piece.from >= zero {
            let behind = piece.from.since(zero).as_nanos() / step.as_nanos();
            zero + step * u32::try_from(behind).unwrap_or(u32::MAX)
        } else {
            let before = zero.since(piece.from).as_nanos() / step.as_nanos();
            Time::from_epoch(zero.since_epoch().saturating_sub(step * u32::try_from(before).unwrap_or(u32::MAX)))
        };
        for _ in 0..most {
            if at >= piece.from && at <= piece.to {
                steps.push(at);
            }
            at = at + step;
        }
    }
    steps
}
