//! The picture as SVG: in one of two widths, and alone or as a part of a page.
//!
//! Everything has its place in a grid: what concerns every lane above, then a lane below the other, a legend at the end. Where
//! marks would lie on one another they are drawn as one that says how many it stands for; a word that has no room is left out,
//! and is in the details. No colour carries a meaning alone: bands have their names in them or in the details, signs their
//! shapes.

mod crowd;
mod header;
mod ink;
mod legend;

use std::fmt::Write as _;

use self::ink::{Ink, Slots, fitting, number, width_of, width_of_bold};
use super::html::{Escaped, short};
use super::picture::axis::Drawn;
use super::picture::{Band, Body, Lane, Mark, Note, Paint, Picture, Sign};
use crate::story::timeline;

/// The colours, for both shades, and the shapes' strokes.
pub(crate) const STYLE: &str = include_str!("svg/picture.css");

/// More bands than these are drawn by what lasted longest in each unit of width.
const EXACT_BANDS: usize = 300;

/// How wide a picture is, and where its labels stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Its class in a page.
    class: &'static str,
    width: f64,
    /// Room for the labels left of the lanes; without any they stand above.
    left: f64,
    fold: f64,
    /// Marks that are nearer to one another than this are one. Also the size of what a finger has to hit.
    near: f64,
}

/// For screens.
pub(crate) const WIDE: Layout = Layout { class: "wide", width: 1180.0, left: 196.0, fold: 48.0, near: 10.0 };
/// For telephones.
pub(crate) const NARROW: Layout = Layout { class: "narrow", width: 358.0, left: 0.0, fold: 32.0, near: 16.0 };

/// Free room at both sides of the time axis, so that what lies at its ends is whole.
const MARGIN: f64 = 8.0;

impl Layout {
    /// How wide the time axis is.
    fn axis(&self) -> f64 {
        self.width - self.left - 2.0 * MARGIN
    }

    /// Where it begins.
    fn begin(&self) -> f64 {
        self.left + MARGIN
    }

    /// How high a lane's label is, where it stands above.
    fn label(&self) -> f64 {
        if self.left > 0.0 { 0.0 } else { 19.0 }
    }
}

/// The picture for a page: its marks can be reached, its colours are the page's.
pub(crate) fn part(picture: &Picture, layout: Layout) -> String {
    draw(picture, layout, None)
}

/// The picture alone, with a title.
pub(crate) fn alone(picture: &Picture, title: &str) -> String {
    draw(picture, WIDE, Some(title))
}

fn draw(picture: &Picture, layout: Layout, title: Option<&str>) -> String {
    let drawn = picture.axis.drawn(layout.axis(), layout.fold);
    let mut ink = Ink::new(title.is_none());
    let top = if title.is_some() { 30.0 } else { 2.0 };
    let lanes_begin = header::height(picture, &drawn, layout) + top;
    let mut end = lanes_begin;
    let mut lanes = Vec::new();
    for lane in &picture.lanes {
        lanes.push((end, lane));
        end += height(lane, layout);
    }
    header::draw(&mut ink, picture, &drawn, layout, (top, end));
    let mut parts = Vec::new();
    for (y, lane) in lanes {
        draw_lane(&mut ink, lane, &drawn, layout, y);
        parts.push((y + layout.label(), y + height(lane, layout)));
    }
    header::draw_rules(&mut ink, picture, &drawn, layout, top, &parts);
    let height = legend::draw(&mut ink, picture, layout, end + 14.0) + 6.0;
    let name = format!("Picture of the run: {} lanes over time", picture.lanes.len());
    let mut svg = String::new();
    let (class, width) = (layout.class, number(layout.width));
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"picture {class}\" viewBox=\"0 0 {width} {}\"",
        number(height)
    );
    match title {
        None => {
            let _ = write!(svg, " role=\"group\" aria-label=\"{name}\">");
        }
        Some(title) => {
            let _ = write!(
                svg,
                " width=\"{width}\" height=\"{}\" role=\"img\" aria-label=\"{}\"><style>{STYLE}</style><rect class=\"paper\" \
                 width=\"100%\" height=\"100%\"/><text class=\"title\" x=\"{}\" y=\"20\">{}</text>",
                number(height),
                Escaped(title),
                number(MARGIN),
                Escaped(&short(title, 140)),
            );
        }
    }
    svg + &ink.into_text() + "</svg>\n"
}

/// Where the parts of a lane lie, from its upper edge; without the label above.
const LIFE: f64 = 9.0;
const BAND: f64 = 17.0;
const BAND_HEIGHT: f64 = 15.0;
const CROWD_HEIGHT: f64 = 34.0;
const WORK: f64 = 33.5;
const TRAFFIC: f64 = 42.0;

fn height(lane: &Lane, layout: Layout) -> f64 {
    let own = match &lane.body {
        Body::Crowd { .. } => BAND + CROWD_HEIGHT + 7.0,
        Body::Bands(bands) if bands.is_empty() => 22.0,
        Body::Bands(_) if lane.traffic.is_empty() && lane.work.is_empty() => BAND + BAND_HEIGHT + 7.0,
        Body::Bands(_) => TRAFFIC + 7.0,
    };
    own + layout.label()
}

fn draw_lane(ink: &mut Ink, lane: &Lane, drawn: &Drawn, layout: Layout, y: f64) {
    let broken = if lane.is_broken { " broken-lane" } else { "" };
    ink.open(&format!("lane{broken}"), &format!("{}: {}", lane.name, lane.note));
    let bottom = y + height(lane, layout);
    ink.add(format_args!(
        "<line class=\"edge\" x1=\"0\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>",
        number(layout.width),
        number(y),
        number(y)
    ));
    if layout.label() > 0.0 {
        let (y, wide, high) = (number(y + 0.5), number(layout.width), number(layout.label() - 1.0));
        ink.add(format_args!("<rect class=\"paper\" x=\"0\" y=\"{y}\" width=\"{wide}\" height=\"{high}\"/>"));
    }
    label(ink, lane, layout, (y, bottom));
    let y = y + layout.label();
    match &lane.body {
        Body::Bands(bands) if bands.len() > EXACT_BANDS => {
            for band in crowd::mostly(bands, drawn, layout) {
                draw_band(ink, lane, &band, drawn, layout, y, "mostly ");
            }
        }
        Body::Bands(bands) => {
            for band in bands {
                draw_band(ink, lane, band, drawn, layout, y, "");
            }
        }
        Body::Crowd { bands, what } => crowd::draw(ink, lane, bands, what, drawn, layout, y),
    }
    for (from, to, note) in &lane.work {
        let (x1, x2) = (layout.begin() + drawn.x(*from), layout.begin() + drawn.x(*to));
        let wide = (x2 - x1).max(0.8);
        ink.item(
            wide >= layout.near,
            x1,
            note,
            format_args!(
                "<rect class=\"b-work\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"4\" rx=\"1\"/>",
                number(x1),
                number(y + WORK),
                number(wide)
            ),
        );
    }
    draw_marks(ink, lane, &lane.traffic, drawn, layout, y + TRAFFIC);
    draw_marks(ink, lane, &lane.life, drawn, layout, y + LIFE);
    ink.close();
}

/// Sizes of the texts, as the style has them.
const NAME_SIZE: f64 = 12.5;
const NOTE_SIZE: f64 = 11.0;
const WORD_SIZE: f64 = 11.0;

fn label(ink: &mut Ink, lane: &Lane, layout: Layout, (y, bottom): (f64, f64)) {
    let name = |room: f64| fitting(&lane.name, room, |text| width_of_bold(text, NAME_SIZE));
    let note = |room: f64| fitting(&lane.note, room, |text| width_of(text, NOTE_SIZE));
    if layout.left > 0.0 {
        let (middle, room) = ((y + bottom) / 2.0, layout.left - MARGIN - 4.0);
        ink.text("name", MARGIN, middle - 2.0, "start", &name(room));
        ink.text("note", MARGIN, middle + 12.0, "start", &note(room));
    } else {
        let room = layout.width - 3.0 * MARGIN;
        let name = name(room * 0.5);
        let rest = room - width_of_bold(&name, NAME_SIZE);
        ink.text("name", MARGIN, y + 14.0, "start", &name);
        ink.text("note", layout.width - MARGIN, y + 14.0, "end", &note(rest));
    }
}

fn draw_band(ink: &mut Ink, lane: &Lane, band: &Band, drawn: &Drawn, layout: Layout, y: f64, mostly: &str) {
    let (x1, x2) = (layout.begin() + drawn.x(band.from), layout.begin() + drawn.x(band.to));
    let wide = (x2 - x1).max(0.6);
    let name = band.paint.name();
    let rect = format!(
        "<rect class=\"b-{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{BAND_HEIGHT}\"/>",
        name.replace(' ', "-"),
        number(x1),
        number(y + BAND),
        number(wide),
    );
    let text = if width_of(name, WORD_SIZE) + 6.0 < wide {
        let (x, y) = (number(x1 + wide / 2.0), number(y + BAND + 11.5));
        format!(
            "<text class=\"in-{}\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{name}</text>",
            name.replace(' ', "-")
        )
    } else {
        String::new()
    };
    let lasted = timeline::clock(band.to.since(band.from));
    let note = Note {
        when: format!("{} to {}", drawn.when(band.from), drawn.when(band.to)),
        who: lane.name.clone(),
        what: format!("{mostly}{name} for {lasted}: {}", band.paint.waits()),
    };
    ink.item(wide >= layout.near / 2.0, x1, &note, format_args!("{rect}{text}"));
}

/// Marks of one row; those that are too near are one.
fn draw_marks(ink: &mut Ink, lane: &Lane, marks: &[Mark], drawn: &Drawn, layout: Layout, y: f64) {
    let mut groups: Vec<(f64, Vec<&Mark>)> = Vec::new();
    for mark in marks {
        let x = layout.begin() + drawn.x(mark.at);
        match groups.last_mut() {
            Some((first, group)) if x - *first < layout.near => group.push(mark),
            _ => groups.push((x, vec![mark])),
        }
    }
    // A word must not run into the next mark, nor into another word: where there is no room it is left out.
    let mut words = Slots::default();
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
fn shape(sign: Sign, x: f64, y: f64) -> String {
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

/// The paints that a picture has.
fn paints(picture: &Picture) -> Vec<Paint> {
    let has = |paint: &Paint| {
        picture.lanes.iter().any(|lane| match &lane.body {
            Body::Bands(bands) | Body::Crowd { bands, .. } => {
                bands.iter().any(|band| band.paint == *paint) || *paint == Paint::Work && !lane.work.is_empty()
            }
        })
    };
    Paint::ALL.into_iter().filter(has).collect()
}
