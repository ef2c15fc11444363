//! The phases of the drain: a strip above the lanes and a ground behind them. A phase that is too narrow for its name has it in a
//! line below the strip.

use lastcall_core::Phase;

use super::grid::Grid;
use super::ink::{Ink, number, width_of};
use super::legend::Place;
use crate::report::picture::{Note, Picture, Span, brief};

/// How high the strip is, and a line of names below it.
pub(super) const STRIP: f64 = 18.0;
const LINE: f64 = 16.0;
/// The size of a name, as the style has it.
const SIZE: f64 = 11.5;

/// The phases of a picture, and where their names are.
#[derive(Debug)]
pub(super) struct Phases<'a> {
    spans: &'a [Span],
    /// Those whose names stand below the strip: where, from its lower edge.
    below: Vec<(&'a Span, f64, f64)>,
    /// How high everything is.
    pub(super) height: f64,
}

impl<'a> Phases<'a> {
    pub(super) fn of(picture: &'a Picture, grid: &Grid) -> Phases<'a> {
        let mut place = Place::at(grid.layout.left, 0.0, LINE, grid.layout);
        let narrow = picture.phases.iter().filter(|span| inside(span, grid).is_none());
        let below: Vec<(&Span, f64, f64)> = narrow
            .map(|span| {
                let (x, y) = place.next(&words(span));
                (span, x, y)
            })
            .collect();
        let height = STRIP + below.last().map_or(0.0, |(_, _, y)| y + LINE);
        Phases { spans: &picture.phases, below, height }
    }

    /// Draws them from `y` on; their grounds lie behind the lanes, from where to where.
    pub(super) fn draw(&self, ink: &mut Ink, grid: &Grid, y: f64, (top, bottom): (f64, f64)) {
        ink.open("time", "phases of the drain");
        for span in self.spans {
            let (x1, x2) = (grid.x(span.from), grid.x(span.to));
            let wide = (x2 - x1).max(0.5);
            let class = name(span.phase).replace(' ', "-");
            let rect = |kind: &str, y: f64, height: f64| {
                let [x, y, wide, height] = [x1, y, wide, height].map(number);
                format!("<rect class=\"{kind} p-{class}\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{height}\"/>")
            };
            ink.add(format_args!("{}\n", rect("ground", top, bottom - top)));
            let text = inside(span, grid).map_or(String::new(), |(middle, words)| {
                let (x, y) = (number(middle), number(y + 13.0));
                format!("<text class=\"phase\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{words}</text>")
            });
            let note = Note {
                when: format!("{} to {}", grid.drawn.when(span.from), grid.drawn.when(span.to)),
                who: "drain".to_owned(),
                what: span.what.to_owned(),
            };
            ink.item(wide >= 3.0, x1, &note, format_args!("{}{text}", rect("strip", y, STRIP)));
        }
        ink.close();
        for (span, x, down) in &self.below {
            let y = y + STRIP + down;
            let (class, at, top) = (name(span.phase).replace(' ', "-"), number(*x), number(y + 3.0));
            ink.add(format_args!(
                "<rect class=\"strip key p-{class}\" x=\"{at}\" y=\"{top}\" width=\"12\" height=\"10\"/>"
            ));
            ink.text("phase", x + 17.0, y + 12.0, "start", &words(span));
        }
    }
}

/// What stands in a phase's part of the strip, and where, if there is room.
fn inside(span: &Span, grid: &Grid) -> Option<(f64, String)> {
    let (from, to) = grid.above(grid.x(span.from), grid.x(span.to));
    let words = [words(span), name(span.phase).to_owned()];
    let words = words.into_iter().find(|words| width_of(words, SIZE) + 4.0 < to - from)?;
    Some((f64::midpoint(from, to), words))
}

/// A phase and its length.
fn words(span: &Span) -> String {
    match span.phase {
        // It lasts for ever.
        Phase::Drained => name(span.phase).to_owned(),
        phase => format!("{} {}", name(phase), brief(span.to.since(span.from))),
    }
}

/// Its name; its class is the same.
const fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Serving => "serving",
        Phase::LameDuck => "lame duck",
        Phase::Grace => "grace",
        Phase::Boundary => "boundary",
        Phase::Wall => "wall",
        Phase::Drained => "gone",
    }
}
