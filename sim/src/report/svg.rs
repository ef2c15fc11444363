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
mod marks;

use std::fmt::Write as _;

use self::ink::{Ink, fitting, number, width_of, width_of_bold};
use self::marks::draw_marks;
use super::html::{Escaped, short};
use super::picture::axis::Drawn;
use super::picture::{Band, Body, Lane, Note, Paint, Picture};
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
    draw_work(ink, lane, drawn, layout, y + WORK);
    draw_marks(ink, lane, &lane.traffic, drawn, layout, y + TRAFFIC);
    draw_marks(ink, lane, &lane.life, drawn, layout, y + LIFE);
    ink.close();
}

/// When the lane's worker ran its statements. Those that are too short to be told apart are drawn as one.
fn draw_work(ink: &mut Ink, lane: &Lane, drawn: &Drawn, layout: Layout, y: f64) {
    let rect = |x1: f64, x2: f64| {
        let [x, y, wide] = [x1, y, (x2 - x1).max(0.8)].map(number);
        format!("<rect class=\"b-work\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"4\" rx=\"1\"/>")
    };
    let mut short: Vec<(f64, f64)> = Vec::new();
    for (from, to, note) in &lane.work {
        let (x1, x2) = (layout.begin() + drawn.x(*from), layout.begin() + drawn.x(*to));
        if x2 - x1 >= layout.near {
            ink.item(true, x1, note, format_args!("{}", rect(x1, x2)));
            continue;
        }
        match short.last_mut() {
            Some((_, end)) if x1 - *end < 0.8 => *end = x2.max(*end),
            _ => short.push((x1, x2)),
        }
    }
    let rects: String = short.into_iter().map(|(x1, x2)| rect(x1, x2)).collect();
    ink.add(format_args!("{rects}\n"));
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
