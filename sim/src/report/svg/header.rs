//! What concerns every lane: the phases, the moments that everybody feels, the times, the folds.

use std::time::Duration;

use lastcall_core::{Phase, Time};

use super::Layout;
use super::ink::{Ink, Slots, number, width_of, width_of_bold};
use crate::report::html::Escaped;
use crate::report::picture::axis::Drawn;
use crate::report::picture::{Note, Picture, RuleKind, brief, brief_from};
use crate::story::timeline;

/// Rows of labels above the phases, at most. What finds no room in them has its line and its details.
const MOST_ROWS: usize = 4;
const ROW: f64 = 17.0;
const PHASES: f64 = 18.0;
const TIMES: f64 = 18.0;

/// Where a label stands.
struct Placed {
    row: usize,
    x: f64,
}

/// How wide a rule's tag is: its text is bold.
fn tag_width(label: &str) -> f64 {
    width_of_bold(label, 11.0) + 8.0
}

/// How high it is.
pub(super) fn height(picture: &Picture, drawn: &Drawn, layout: Layout) -> f64 {
    rows(&placed(picture, drawn, layout)) as f64 * ROW + PHASES + TIMES
}

fn rows(placed: &[Option<Placed>]) -> usize {
    placed.iter().flatten().map(|placed| placed.row + 1).max().unwrap_or_default()
}

/// The place of each rule's label.
fn placed(picture: &Picture, drawn: &Drawn, layout: Layout) -> Vec<Option<Placed>> {
    let mut slots: Vec<Slots> = (0..MOST_ROWS).map(|_| Slots::default()).collect();
    let place = |rule: &crate::report::picture::Rule| {
        let wide = tag_width(&rule.label);
        let x = layout.begin() + drawn.x(rule.at);
        let x = x.clamp(layout.left + wide / 2.0, layout.width - wide / 2.0);
        let row = slots.iter_mut().position(|row| row.take(x - wide / 2.0, x + wide / 2.0))?;
        Some(Placed { row, x })
    };
    picture.rules.iter().map(place).collect()
}

/// The phases and the folds behind the lanes, and the times above them.
pub(super) fn draw(ink: &mut Ink, picture: &Picture, drawn: &Drawn, layout: Layout, (top, bottom): (f64, f64)) {
    let y = top + rows(&placed(picture, drawn, layout)) as f64 * ROW;
    ink.open("time", "phases of the drain and folds of the time axis");
    for span in &picture.phases {
        let (x1, x2) = (layout.begin() + drawn.x(span.from), layout.begin() + drawn.x(span.to));
        let (name, class) = match span.phase {
            Phase::Serving => ("serving", "serving"),
            Phase::LameDuck => ("lame duck", "lame-duck"),
            Phase::Grace => ("grace", "grace"),
            Phase::Boundary => ("boundary", "boundary"),
            Phase::Wall => ("wall", "wall"),
            Phase::Drained => ("gone", "gone"),
        };
        let wide = (x2 - x1).max(0.5);
        let rect = |class: &str, y: f64, height: f64| {
            let [x, y, wide, height] = [x1, y, wide, height].map(number);
            format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{height}\"/>")
        };
        let text = if width_of(name, 11.5) + 4.0 < wide {
            let (x, y) = (number(x1 + wide / 2.0), number(y + 13.0));
            format!("<text class=\"phase\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{name}</text>")
        } else {
            String::new()
        };
        let ground = rect(&format!("ground p-{class}"), y + PHASES, bottom - y - PHASES);
        ink.add(format_args!("{ground}\n"));
        let note = Note {
            when: format!("{} to {}", drawn.when(span.from), drawn.when(span.to)),
            who: "drain".to_owned(),
            what: span.what.to_owned(),
        };
        let strip = rect(&format!("strip p-{class}"), y, PHASES);
        ink.item(wide >= 3.0, x1, &note, format_args!("{strip}{text}"));
    }
    let mut times = Slots::default();
    for fold in picture.axis.folds() {
        let (x1, x2) = (layout.begin() + drawn.x(fold.from), layout.begin() + drawn.x(fold.to));
        let exact = brief(fold.lasts());
        let label = if width_of(&exact, 10.5) <= x2 - x1 + 4.0 { exact } else { roughly(fold.lasts()) };
        let wide = width_of(&label, 10.5);
        let middle = f64::midpoint(x1, x2).clamp(layout.left + wide / 2.0, layout.width - wide / 2.0);
        // Two folds may be nearer to one another than their labels are wide; the details have what is left out.
        let label =
            if times.take(middle - wide / 2.0 - 2.0, middle + wide / 2.0 + 2.0) { label } else { String::new() };
        let note = Note {
            when: format!("{} to {}", drawn.when(fold.from), drawn.when(fold.to)),
            who: "time axis".to_owned(),
            what: format!("{} in which nothing new happens are folded here", timeline::clock(fold.lasts())),
        };
        let zigzag = |x: f64| {
            let mut at = y + PHASES + TIMES;
            let mut d = format!("M{} {}", number(x), number(at));
            let mut side = 1.0;
            while at + 7.0 < bottom {
                at += 7.0;
                d += &format!("l{} 7", number(3.0 * side));
                side = -side;
            }
            format!("<path class=\"zigzag\" d=\"{d}\"/>")
        };
        ink.item(true, x1, &note, format_args!(
            "<rect class=\"fold\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>{}{}<text class=\"fold-time\" x=\"{}\" y=\"{}\" \
             text-anchor=\"middle\">{}</text>",
            number(x1),
            number(y + PHASES),
            number(x2 - x1),
            number(bottom - y - PHASES),
            zigzag(x1),
            zigzag(x2 - 3.0),
            number(middle),
            number(y + PHASES + 13.0),
            Escaped(&label),
        ));
    }
    ink.close();
    for (x, label) in ticks(picture, drawn, layout, times) {
        ink.text("tick", x, y + PHASES + 13.0, "middle", &label);
    }
}

/// A long duration in the fewest characters, rounded.
fn roughly(duration: Duration) -> String {
    let minutes = (duration.as_secs() + 30) / 60;
    match (minutes, (minutes + 30) / 60) {
        (0, _) => brief(duration),
        (minutes, _) if minutes < 60 => format!("{minutes}m"),
        (_, hours) => format!("{hours}h"),
    }
}

/// Times that stand above the lanes: those of rules and phases first, then as many as there is room for.
fn ticks(picture: &Picture, drawn: &Drawn, layout: Layout, mut slots: Slots) -> Vec<(f64, String)> {
    let rules = picture.rules.iter().filter(|rule| rule.kind != RuleKind::Broken).map(|rule| rule.at);
    let phases = picture.phases.iter().map(|span| span.from);
    let ends = picture.axis.pieces.iter().flat_map(|piece| [piece.from, piece.to]);
    let steps = steps(picture, drawn, layout);
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for at in rules.chain(phases).chain(ends).chain(steps) {
        let label = brief_from(picture.axis.zero, at);
        let wide = width_of(&label, 11.0);
        let x = (layout.begin() + drawn.x(at)).clamp(layout.left + wide / 2.0, layout.width - wide / 2.0);
        if slots.take(x - wide / 2.0 - 4.0, x + wide / 2.0 + 4.0) {
            ticks.push((x, label));
        }
    }
    ticks
}

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
fn steps(picture: &Picture, drawn: &Drawn, layout: Layout) -> Vec<Time> {
    let zero = picture.axis.zero.unwrap_or(Time::EPOCH);
    let mut steps = Vec::new();
    for piece in picture.axis.pieces.iter().filter(|piece| !piece.is_folded) {
        let wide = drawn.x(piece.to) - drawn.x(piece.from);
        let lasts = piece.lasts().as_secs_f64();
        let Some(step) = STEPS.into_iter().find(|step| step.as_secs_f64() / lasts * wide >= STEP_WIDTH) else {
            continue;
        };
        let most = (layout.axis() / STEP_WIDTH) as u32 + 2;
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

/// The moments that concern every lane, over the lanes: `parts` are what of these is crossed, and not a label.
pub(super) fn draw_rules(
    ink: &mut Ink,
    picture: &Picture,
    drawn: &Drawn,
    layout: Layout,
    top: f64,
    parts: &[(f64, f64)],
) {
    let placed = placed(picture, drawn, layout);
    let base = top + rows(&placed) as f64 * ROW;
    ink.open("rules", "moments that concern every lane");
    let mut tags = Vec::new();
    for (rule, placed) in picture.rules.iter().zip(placed) {
        let class = match rule.kind {
            RuleKind::Signal => "signal",
            RuleKind::Exit => "exit",
            RuleKind::Killed => "killed",
            RuleKind::Wall => "wall",
            RuleKind::Bound => "bound",
            RuleKind::Due => "due",
            RuleKind::Broken => "broken",
        };
        let x = layout.begin() + drawn.x(rule.at);
        let from = placed.as_ref().map_or(base, |placed| base - placed.row as f64 * ROW - 2.0);
        // Through the phases, and not through the times; what only begins in the middle of a phase would cross its name.
        let strip = if rule.kind == RuleKind::Due { base } else { base + PHASES };
        let header = (from, strip);
        let line = |(from, to): &(f64, f64)| format!("M{} {}V{}", number(x), number(*from), number(*to));
        let lines: String = [header].iter().chain(parts).map(line).collect();
        ink.add(format_args!("<path class=\"rule r-{class}\" d=\"{lines}\"/>\n"));
        let Some(placed) = placed else { continue };
        let y = base - (placed.row + 1) as f64 * ROW;
        let wide = tag_width(&rule.label);
        let tag = format!(
            "<rect class=\"tag r-{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"/><text class=\"tag-text r-{class}\" \
             x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            number(placed.x - wide / 2.0),
            number(y),
            number(wide),
            number(ROW - 2.0),
            number(placed.x),
            number(y + 11.5),
            Escaped(&rule.label),
        );
        tags.push((x, &rule.note, tag));
    }
    // No line crosses a tag.
    for (x, note, tag) in tags {
        ink.item(true, x, note, format_args!("{tag}"));
    }
    ink.close();
}
