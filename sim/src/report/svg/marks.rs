//! The marks of a lane: signs, of which those that would lie on one another are one, and a word beside them where there is room.

use super::grid::Grid;
use super::ink::{Ink, number, width_of_bold};
use super::{MARGIN, WORD_SIZE};
use crate::report::html::{Escaped, short};
use crate::report::picture::{Body, Lane, Mark, Note, Sign};

/// Marks of one row; those that are too near are one.
pub(super) fn draw_marks(ink: &mut Ink, lane: &Lane, marks: &[Mark], grid: &Grid, y: f64) {
    let layout = grid.layout;
    let mut groups: Vec<(f64, Vec<&Mark>)> = Vec::new();
    for mark in marks {
        let x = grid.x(mark.at);
        match groups.last_mut() {
            Some((first, group)) if x - *first < layout.near => group.push(mark),
            _ => groups.push((x, vec![mark])),
        }
    }
    // A word must not run into the next mark, nor into another word, a fold or a line: where there is no room it is left out.
    let mut words = grid.row();
    groups.iter().for_each(|(x, _)| words.block(x - 5.0, x + 5.0));
    for (x, group) in groups {
        let Some(shown) = group.iter().max_by_key(|mark| mark.sign) else { continue };
        let same = group.iter().filter(|mark| mark.sign == shown.sign && mark.label == shown.label).count();
        let is_crowd = matches!(lane.body, Body::Crowd { .. });
        let word = match (shown.label.as_str(), same) {
            ("", _) => String::new(),
            // One of many heaps: its number would look like the sum.
            _ if is_crowd && shown.sign != Sign::Fault => String::new(),
            (label, 1) => short(label, 30),
            (label, many) => format!("{} ×{many}", short(label, 30)),
        };
        let wide = width_of_bold(&word, WORD_SIZE);
        let end = layout.begin() + layout.axis() + MARGIN;
        let mut label = String::new();
        let places = [(x + 7.0, "start", x + 7.0), (x - 7.0, "end", x - 7.0 - wide)];
        if !word.is_empty() {
            let free = places.iter().find(|(_, _, from)| {
                *from >= layout.begin() - MARGIN && from + wide <= end && words.take(*from, from + wide)
            });
            if let Some((at, anchor, _)) = free {
                let (at, y) = (number(*at), number(y + 4.0));
                label = format!(
                    "<text class=\"word s-{}\" x=\"{at}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
                    shown.sign.name(),
                    Escaped(&word)
                );
            }
        }
        let half = layout.near / 2.0;
        let hit = format!(
            "<rect class=\"hit\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            number(x - half),
            number(y - half.min(8.0)),
            number(layout.near),
            number(2.0 * half.min(8.0)),
        );
        ink.seen.signs.insert(shown.sign);
        let shape = shape(shown.sign, x, y);
        ink.item(true, x, &together(lane, &group), format_args!("{hit}{shape}{label}"));
    }
}

/// The most different things that the details of one mark name.
const MOST_SAID: usize = 6;

/// What several marks say.
fn together(lane: &Lane, group: &[&Mark]) -> Note {
    let [first, .., last] = group else { return group[0].note.clone() };
    let mut said: Vec<(&str, usize)> = Vec::new();
    let mut unsaid = 0;
    for mark in group {
        match said.iter().position(|(what, _)| *what == mark.note.what) {
            Some(place) => said[place].1 += 1,
            None if said.len() < MOST_SAID => said.push((&mark.note.what, 1)),
            None => unsaid += 1,
        }
    }
    let mut whats: Vec<String> = said
        .into_iter()
        .map(|(what, count)| if count > 1 { format!("{what} ×{count}") } else { what.to_owned() })
        .collect();
    if unsaid > 0 {
        whats.push(format!("and {unsaid} more"));
    }
    let when = if first.note.when == last.note.when {
        first.note.when.clone()
    } else {
        format!("{} to {}", first.note.when, last.note.when)
    };
    let same = group.iter().all(|mark| mark.note.who == first.note.who);
    let who = if same { first.note.who.clone() } else { lane.name.clone() };
    Note { when, who, what: whats.join("; ") }
}

impl Sign {
    /// Its class.
    const fn name(self) -> &'static str {
        match self {
            Sign::Sent => "sent",
            Sign::Answered => "answered",
            Sign::Small => "small",
            Sign::Begins => "begins",
            Sign::Left => "left",
            Sign::Fault => "fault",
            Sign::Told => "told",
            Sign::Signal => "signal",
            Sign::Failed => "failed",
            Sign::Lost => "lost",
        }
    }
}

/// A sign, drawn around this place.
pub(super) fn shape(sign: Sign, x: f64, y: f64) -> String {
    let at = |dx: f64, dy: f64| format!("{} {}", number(x + dx), number(y + dy));
    let class = sign.name();
    let path = |d: String| format!("<path class=\"m-{class}\" d=\"{d}\"/>");
    match sign {
        Sign::Sent | Sign::Answered => {
            format!("<circle class=\"m-{class}\" cx=\"{}\" cy=\"{}\" r=\"2.6\"/>", number(x), number(y))
        }
        Sign::Small => path(format!("M{}V{}", at(0.0, -4.0), number(y + 4.0))),
        Sign::Begins => path(format!("M{}L{}L{}z", at(-3.0, -4.5), at(4.5, 0.0), at(-3.0, 4.5))),
        Sign::Left => path(format!("M{}h7v7h-7z", at(-3.5, -3.5))),
        Sign::Told => path(format!("M{}L{}L{}L{}z", at(0.0, -5.0), at(5.0, 0.0), at(0.0, 5.0), at(-5.0, 0.0))),
        Sign::Signal => path(format!("M{}h10L{}z", at(-5.0, -4.0), at(0.0, 5.0))),
        Sign::Fault => path(format!("M{}L{}L{}z", at(-5.0, 4.0), at(0.0, -5.0), at(5.0, 4.0))),
        Sign::Failed | Sign::Lost => {
            path(format!("M{}L{}M{}L{}", at(-4.0, -4.0), at(4.0, 4.0), at(-4.0, 4.0), at(4.0, -4.0)))
        }
    }
}
