//! What the colours and the signs mean, of those that the picture has.

use std::collections::BTreeSet;

use super::ink::{Ink, number, width_of};
use super::marks::shape;
use super::{Layout, MARGIN, paints};
use crate::report::picture::{Picture, Sign};

/// Draws it from here on; says where it ends.
pub(super) fn draw(ink: &mut Ink, picture: &Picture, layout: Layout, y: f64) -> f64 {
    let signs: BTreeSet<Sign> =
        picture.lanes.iter().flat_map(|lane| lane.life.iter().chain(&lane.traffic)).map(|mark| mark.sign).collect();
    let mut place = Place { x: MARGIN, y, width: layout.width };
    ink.add(format_args!("<g class=\"legend\" aria-hidden=\"true\">\n"));
    for paint in paints(picture) {
        let (x, y) = place.next(paint.name());
        ink.add(format_args!(
            "<rect class=\"b-{}\" x=\"{}\" y=\"{}\" width=\"14\" height=\"11\" rx=\"2\"/>",
            paint.name().replace(' ', "-"),
            number(x),
            number(y)
        ));
        ink.text("key", x + 19.0, y + 9.5, "start", paint.name());
    }
    for sign in signs {
        let name = meaning(sign);
        let (x, y) = place.next(name);
        ink.add(format_args!("{}", shape(sign, x + 7.0, y + 5.5)));
        ink.text("key", x + 19.0, y + 9.5, "start", name);
    }
    if picture.axis.folds().next().is_some() {
        let (x, y) = place.next("time that is folded");
        ink.add(format_args!(
            "<rect class=\"fold\" x=\"{}\" y=\"{}\" width=\"14\" height=\"11\"/>",
            number(x),
            number(y)
        ));
        ink.text("key", x + 19.0, y + 9.5, "start", "time that is folded");
    }
    ink.close();
    place.y + 16.0
}

/// Where the next entry stands.
struct Place {
    x: f64,
    y: f64,
    width: f64,
}

impl Place {
    fn next(&mut self, name: &str) -> (f64, f64) {
        let wide = 19.0 + width_of(name, 11.5) + 12.0;
        if self.x + wide > self.width - MARGIN && self.x > MARGIN {
            (self.x, self.y) = (MARGIN, self.y + 18.0);
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
