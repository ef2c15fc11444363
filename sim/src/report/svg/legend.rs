//! What the colours and the signs mean, of those that were drawn.

use super::ink::{Ink, Seen, number, width_of};
use super::marks::shape;
use super::{Layout, MARGIN};
use crate::report::picture::{Paint, Sign};

/// Draws it from here on; says where it ends.
pub(super) fn draw(ink: &mut Ink, layout: Layout, y: f64) -> f64 {
    let Seen { paints, signs, folds } = ink.seen.clone();
    let mut place = Place::at(MARGIN, y, 18.0, layout);
    ink.add(format_args!("<g class=\"legend\" aria-hidden=\"true\">\n"));
    for paint in Paint::ALL.into_iter().filter(|paint| paints.contains(paint)) {
        let (x, y) = place.next(paint.name());
        let (class, at, top) = (paint.class(), number(x), number(y));
        ink.add(format_args!("<rect class=\"{class}\" x=\"{at}\" y=\"{top}\" width=\"14\" height=\"11\" rx=\"2\"/>"));
        ink.text("key", x + 19.0, y + 9.5, "start", paint.name());
    }
    for sign in signs {
        let name = meaning(sign);
        let (x, y) = place.next(name);
        ink.add(format_args!("{}", shape(sign, x + 7.0, y + 5.5)));
        ink.text("key", x + 19.0, y + 9.5, "start", name);
    }
    if folds {
        let (x, y) = place.next(FOLD);
        let edge = |x: f64| format!("M{} {}l3 4l-3 4l3 4", number(x), number(y - 0.5));
        ink.add(format_args!("<path class=\"torn\" d=\"{}{}\"/>", edge(x + 1.0), edge(x + 9.0)));
        ink.text("key", x + 19.0, y + 9.5, "start", FOLD);
    }
    ink.close();
    place.y + 16.0
}

const FOLD: &str = "so much time is left out";

/// Where the next entry of a list stands, line after line.
#[derive(Debug)]
pub(super) struct Place {
    begin: f64,
    x: f64,
    y: f64,
    line: f64,
    end: f64,
}

impl Place {
    /// From here on, in lines of this height.
    pub(super) fn at(x: f64, y: f64, line: f64, layout: Layout) -> Place {
        let begin = x.max(MARGIN);
        Place { begin, x: begin, y, line, end: layout.width - MARGIN }
    }

    pub(super) fn next(&mut self, name: &str) -> (f64, f64) {
        let wide = 19.0 + width_of(name, 11.5) + 12.0;
        if self.x + wide > self.end && self.x > self.begin {
            (self.x, self.y) = (self.begin, self.y + self.line);
        }
        let place = (self.x, self.y);
        self.x += wide;
        place
    }
}

const fn meaning(sign: Sign) -> &'static str {
    match sign {
        Sign::Sent => "request sent",
        Sign::Answered => "answered",
        Sign::Small => "an event",
        Sign::Begins => "begins",
        Sign::Left => "ends by itself",
        Sign::Told => "told the end (FATAL)",
        Sign::Signal => "signal",
        Sign::Fault => "fault",
        Sign::Failed => "error",
        Sign::Lost => "lost",
    }
}
