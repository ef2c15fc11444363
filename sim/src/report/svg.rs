//! The picture as SVG: in one of two widths, and alone or as a part of a page.
//!
//! Everything has its place in a grid: what concerns every lane above, then a lane below the other, a legend at the end. Where
//! marks would lie on one another they are drawn as one that says how many it stands for; a word that has no room is left out,
//! and is in the details. No colour carries a meaning alone: bands have their names in them or in the details, signs their
//! shapes.

mod crowd;
mod folds;
mod grid;
mod header;
mod ink;
mod legend;
mod marks;
mod phases;

use std::fmt::Write as _;

use self::grid::Grid;
use self::header::Header;
use self::ink::{Ink, fitting, number, width_of, width_of_bold};
use self::marks::draw_marks;
use super::html::{Escaped, short};
use super::picture::{Band, Body, Held, Lane, Note, Paint, Picture, brief};
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
pub(crate) const WIDE: Layout = Layout { class: "wide", width: 1180.0, left: 196.0, fold: 52.0, near: 10.0 };
/// For telephones.
pub(crate) const NARROW: Layout = Layout { class: "narrow", width: 358.0, left: 0.0, fold: 36.0, near: 16.0 };

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
    let grid = Grid::of(picture, layout);
    let mut ink = Ink::new(title.is_none());
    let header = Header::of(picture, &grid, if title.is_some() { 30.0 } else { 4.0 });
    let mut end = header.end();
    let place = |lane| {
        let top = end;
        end += height(lane, layout);
        LaneAt { lane, top, y: top + layout.label(), bottom: end }
    };
    let lanes: Vec<LaneAt> = picture.lanes.iter().map(place).collect();
    header.draw(&mut ink, &lanes);
    for lane in &lanes {
        draw_lane(&mut ink, picture, lane, &grid);
    }
    header.draw_rules(&mut ink, &lanes);
    let height = legend::draw(&mut ink, layout, end + 14.0) + 6.0;
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

/// A lane and its place.
#[derive(Clone, Copy, Debug)]
struct LaneAt<'a> {
    lane: &'a Lane,
    /// Its upper edge; where its label ends, if that stands above; its lower edge.
    top: f64,
    y: f64,
    bottom: f64,
}

impl LaneAt<'_> {
    /// How high its bar is. That of who held the pod is the highest.
    fn bar(&self) -> f64 {
        match (&self.lane.body, &self.lane.held) {
            (Body::Crowd { .. }, _) => CROWD_HEIGHT,
            (Body::Bands(_), Some(_)) => BAND_HEIGHT + HELD,
            (Body::Bands(_), None) => BAND_HEIGHT,
        }
    }

    /// How much lower everything below its bar lies.
    fn lower(&self) -> f64 {
        self.bar() - BAND_HEIGHT
    }

    /// The middle of its bar.
    fn middle(&self) -> f64 {
        self.y + BAND + self.bar() / 2.0
    }
}

/// Where the parts of a lane lie, from its upper edge; without the label above.
const LIFE: f64 = 9.0;
const BAND: f64 = 17.0;
const BAND_HEIGHT: f64 = 15.0;
/// How much higher the bar is of who held the pod.
const HELD: f64 = 8.0;
const CROWD_HEIGHT: f64 = 34.0;
const WORK: f64 = 33.5;
const TRAFFIC: f64 = 42.0;

fn height(lane: &Lane, layout: Layout) -> f64 {
    let higher = if lane.held.is_some() { HELD } else { 0.0 };
    let own = match &lane.body {
        Body::Crowd { .. } => BAND + CROWD_HEIGHT + 7.0,
        Body::Bands(bands) if bands.is_empty() => LONELY,
        Body::Bands(_) if lane.traffic.is_empty() && lane.work.is_empty() => BAND + BAND_HEIGHT + 7.0 + higher,
        Body::Bands(_) => TRAFFIC + 7.0 + higher,
    };
    own + layout.label()
}

/// How high a lane without a bar is: as its label.
const LONELY: f64 = 32.0;

fn draw_lane(ink: &mut Ink, picture: &Picture, at: &LaneAt, grid: &Grid) {
    let (lane, layout) = (at.lane, grid.layout);
    let broken = if lane.is_broken { " broken-lane" } else { "" };
    let holds = if lane.held.is_some() { " holds" } else { "" };
    let held = lane.held.as_ref().map_or(String::new(), |held| format!("{}, ", held.words));
    ink.open(&format!("lane{broken}{holds}"), &format!("{}: {held}{}", lane.name, lane.note));
    let (wide, top) = (number(layout.width), number(at.top));
    ink.add(format_args!("<line class=\"edge\" x1=\"0\" x2=\"{wide}\" y1=\"{top}\" y2=\"{top}\"/>"));
    if layout.label() > 0.0 {
        let (y, high) = (number(at.top + 0.5), number(layout.label() - 1.0));
        ink.add(format_args!("<rect class=\"paper\" x=\"0\" y=\"{y}\" width=\"{wide}\" height=\"{high}\"/>"));
    }
    label(ink, at, layout);
    match &lane.body {
        Body::Bands(bands) if bands.len() > EXACT_BANDS => {
            crowd::mostly(bands, grid).iter().for_each(|band| draw_band(ink, at, band, grid, "mostly "));
        }
        Body::Bands(bands) => bands.iter().for_each(|band| draw_band(ink, at, band, grid, "")),
        Body::Crowd { bands, what } => crowd::draw(ink, lane, bands, what, grid, at.y),
    }
    if let Some(held) = &lane.held {
        frame(ink, at, held, grid);
    }
    draw_work(ink, lane, grid, at.y + WORK + at.lower());
    folds::tear(ink, picture, grid, at);
    draw_marks(ink, lane, &lane.traffic, grid, at.y + TRAFFIC + at.lower());
    draw_marks(ink, lane, &lane.life, grid, at.y + LIFE);
    ink.close();
}

/// The frame around the time in which a lane's owner held the pod.
fn frame(ink: &mut Ink, at: &LaneAt, held: &Held, grid: &Grid) {
    let (x1, x2) = (grid.x(held.from), grid.x(held.to));
    let [x, y, wide, high] = [x1, at.y + BAND, (x2 - x1).max(2.0), at.bar()].map(number);
    ink.add(format_args!("<rect class=\"held\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{high}\"/>\n"));
}

/// When the lane's worker ran its statements. Those that are too short to be told apart are drawn as one.
fn draw_work(ink: &mut Ink, lane: &Lane, grid: &Grid, y: f64) {
    let class = Paint::Work.class();
    let rect = |x1: f64, x2: f64| {
        let [x, y, wide] = [x1, y, (x2 - x1).max(0.8)].map(number);
        format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"4\" rx=\"1\"/>")
    };
    let mut short: Vec<(f64, f64)> = Vec::new();
    for (from, to, note) in &lane.work {
        let (x1, x2) = (grid.x(*from), grid.x(*to));
        ink.seen.bar(Paint::Work, x2 - x1, BAND_HEIGHT);
        if x2 - x1 >= grid.layout.near {
            ink.item(true, x1, note, format_args!("{}", rect(x1, x2)));
            continue;
        }
        match short.last_mut() {
            Some((_, end)) if x1 - *end < 0.8 => *end = x2.max(*end),
            _ => short.push((x1, x2)),
        }
    }
    short.iter().for_each(|(x1, x2)| ink.seen.bar(Paint::Work, x2 - x1, BAND_HEIGHT));
    let rects: String = short.into_iter().map(|(x1, x2)| rect(x1, x2)).collect();
    ink.add(format_args!("{rects}\n"));
}

/// Sizes of the texts, as the style has them.
const NAME_SIZE: f64 = 12.5;
const NOTE_SIZE: f64 = 11.0;
const WORD_SIZE: f64 = 11.0;

fn label(ink: &mut Ink, at: &LaneAt, layout: Layout) {
    let lane = at.lane;
    let fits = |text: &str, room: f64| fitting(text, room, |text| width_of(text, NOTE_SIZE));
    let name = |room: f64| fitting(&lane.name, room, |text| width_of_bold(text, NAME_SIZE));
    let held = lane.held.as_ref().map(|held| held.words);
    if layout.left > 0.0 {
        let (middle, room) = (f64::midpoint(at.top, at.bottom), layout.left - MARGIN - 4.0);
        let up = if held.is_some() { 9.5 } else { 0.0 };
        ink.text("name", MARGIN, middle - 2.0 - up, "start", &name(room));
        if let Some(held) = held {
            holder(ink, MARGIN, middle + 12.0 - up, held);
        }
        ink.text("note", MARGIN, middle + 12.0 + up, "start", &fits(&lane.note, room));
        return;
    }
    let (y, room) = (at.top + 14.0, layout.width - 3.0 * MARGIN);
    let name = name(room * 0.4);
    let mut taken = width_of_bold(&name, NAME_SIZE);
    ink.text("name", MARGIN, y, "start", &name);
    if let Some(held) = held {
        holder(ink, MARGIN + taken + MARGIN, y, held);
        taken += width_of_bold(held, NOTE_SIZE) + 3.0 * MARGIN;
    }
    ink.text("note", layout.width - MARGIN, y, "end", &fits(&lane.note, room - taken));
}

/// Says of a lane that its owner was the last.
fn holder(ink: &mut Ink, x: f64, y: f64, words: &str) {
    let (top, wide, at) = (number(y - 11.0), number(width_of_bold(words, NOTE_SIZE) + MARGIN), number(x));
    ink.add(format_args!(
        "<rect class=\"holder-tag\" x=\"{at}\" y=\"{top}\" width=\"{wide}\" height=\"14\" rx=\"3\"/>"
    ));
    ink.text("holder", x + MARGIN / 2.0, y, "start", words);
}

fn draw_band(ink: &mut Ink, at: &LaneAt, band: &Band, grid: &Grid, mostly: &str) {
    let (x1, x2) = (grid.x(band.from), grid.x(band.to));
    let (wide, high, name) = ((x2 - x1).max(0.6), at.bar(), band.paint.name());
    ink.seen.bar(band.paint, wide, high);
    let [x, y, width, height] = [x1, at.y + BAND, wide, high].map(number);
    let class = band.paint.class();
    let rect = format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>");
    let text = word_of(band, grid).map_or(String::new(), |(middle, word)| {
        let (class, x, y) = (class.replacen("b-", "in-", 1), number(middle), number(at.middle() + 4.0));
        format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{word}</text>")
    });
    let lasted = timeline::clock(band.to.since(band.from));
    let note = Note {
        when: format!("{} to {}", grid.drawn.when(band.from), grid.drawn.when(band.to)),
        who: at.lane.name.clone(),
        what: format!("{mostly}{name} for {lasted}: {}", band.paint.waits()),
    };
    ink.item(wide >= grid.layout.near / 2.0, x1, &note, format_args!("{rect}{text}"));
}

/// What stands in a bar, and where: its name and how long it lasted, or as much of that as there is room for.
fn word_of(band: &Band, grid: &Grid) -> Option<(f64, String)> {
    let (name, lasted) = (band.paint.name(), brief(band.to.since(band.from)));
    let words = [format!("{name} {lasted}"), lasted, name.to_owned()];
    let (from, to) = grid.in_bar(grid.x(band.from), grid.x(band.to));
    let word = words.into_iter().find(|word| width_of(word, WORD_SIZE) + 6.0 < to - from)?;
    Some((f64::midpoint(from, to), word))
}
