//! Folds: time that is left out. Each is a break through all lanes, with its length in every bar that it breaks, so that nobody
//! takes a bar's length on paper for its length in time.

use std::time::Duration;

use super::LaneAt;
use super::grid::Grid;
use super::ink::{Ink, Slots, number, width_of_bold};
use crate::report::picture::axis::Piece;
use crate::report::picture::{Body, Note, Picture, brief};
use crate::story::timeline;

/// The size of a fold's length, as the style has it.
const SIZE: f64 = 10.5;
/// One tooth of a break's edge.
const TOOTH: f64 = 5.0;
const DEPTH: f64 = 3.0;

/// Their lengths, in the row of the times, which begins at `y`.
pub(super) fn draw(ink: &mut Ink, picture: &Picture, grid: &Grid, (y, bottom): (f64, f64)) {
    if picture.axis.folds().next().is_none() {
        return;
    }
    ink.seen.folds = true;
    ink.open("folds", "time that is left out");
    for fold in picture.axis.folds() {
        let (x1, x2) = (grid.x(fold.from), grid.x(fold.to));
        let [x, top, wide, high] = [x1, y, x2 - x1, bottom - y].map(number);
        let hit = format!("<rect class=\"hit\" x=\"{x}\" y=\"{top}\" width=\"{wide}\" height=\"{high}\"/>");
        let note = Note {
            when: format!("{} to {}", grid.drawn.when(fold.from), grid.drawn.when(fold.to)),
            who: "time axis".to_owned(),
            what: format!("{} are left out here: nothing new happens in them", timeline::clock(fold.lasts())),
        };
        ink.item(true, x1, &note, format_args!("{hit}{}", length(fold, x1, x2, y + 13.0)));
    }
    ink.close();
}

/// Breaks a lane's bars.
pub(super) fn tear(ink: &mut Ink, picture: &Picture, grid: &Grid, at: &LaneAt) {
    for fold in picture.axis.folds() {
        let (x1, x2) = (grid.x(fold.from), grid.x(fold.to));
        let gap = torn(x1, x2, at.y, at.bottom);
        let length =
            if is_broken(&at.lane.body, fold) { length(fold, x1, x2, at.middle() + 4.0) } else { String::new() };
        ink.add(format_args!("{gap}{length}\n"));
    }
}

/// The room that they take in the row of the times.
pub(super) fn block(picture: &Picture, grid: &Grid, row: &mut Slots) {
    picture.axis.folds().for_each(|fold| row.block(grid.x(fold.from), grid.x(fold.to)));
}

/// Paper between two torn edges.
fn torn(x1: f64, x2: f64, top: f64, bottom: f64) -> String {
    let teeth = ((bottom - top) / TOOTH) as usize;
    let side = |tooth: usize| if tooth.is_multiple_of(2) { DEPTH } else { -DEPTH };
    let down: String = (0..teeth).map(|tooth| format!("l{} {TOOTH}", side(tooth))).collect();
    let up: String = (0..teeth).rev().map(|tooth| format!("l{} -{TOOTH}", -side(tooth))).collect();
    let aside = if teeth.is_multiple_of(2) { 0.0 } else { DEPTH };
    let [left, right, corner] = [x1, x2 - DEPTH, x2 - DEPTH + aside].map(number);
    let [top, end, bottom] = [top, top + teeth as f64 * TOOTH, bottom].map(number);
    format!(
        "<path class=\"fold\" d=\"M{left} {top}{down}V{bottom}H{corner}V{end}{up}z\"/>\
         <path class=\"torn\" d=\"M{left} {top}{down}V{bottom}M{right} {top}{down}V{bottom}\"/>"
    )
}

/// Whether a fold breaks a bar of this body.
fn is_broken(body: &Body, fold: &Piece) -> bool {
    let (Body::Bands(bands) | Body::Crowd { bands, .. }) = body;
    bands.iter().any(|band| band.from <= fold.from && fold.to <= band.to)
}

/// How long a fold is, in the middle of it.
fn length(fold: &Piece, x1: f64, x2: f64, y: f64) -> String {
    let exact = brief(fold.lasts());
    let fits = width_of_bold(&exact, SIZE) <= x2 - x1 - 2.0 * DEPTH - 2.0;
    let (x, y) = (number(f64::midpoint(x1, x2)), number(y));
    let text = if fits { exact } else { roughly(fold.lasts()) };
    format!("<text class=\"fold-time\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>")
}

/// A duration in the fewest characters, rounded.
fn roughly(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    match seconds {
        0 => brief(duration),
        1..60 => format!("{seconds}s"),
        60..3_570 => format!("{}m", (seconds + 30) / 60),
        _ => format!("{}h", (seconds + 1_800) / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_has_no_room_is_rounded() {
        let rounded =
            [400, 29_600, 154_000, 3_580_000, 86_399_000].map(|millis| roughly(Duration::from_millis(millis)));
        assert_eq!(rounded, ["400ms", "30s", "3m", "1h", "24h"]);
    }
}
