//! Lanes of many: how many do what, column by column.

use std::collections::BTreeMap;

use lastcall_core::Time;

use super::grid::Grid;
use super::ink::{Ink, number};
use super::{BAND, CROWD_HEIGHT};
use crate::cast::pod::report::Activity;
use crate::report::picture::axis::Drawn;
use crate::report::picture::{Band, Lane, Note, Paint};
use crate::story::timeline;

/// What lies above what: whoever waits for a worker at the bottom, whoever waits for nothing on top.
const STACK: [Paint; 10] = [
    Paint::Work,
    Paint::Doing(Activity::Executing),
    Paint::Doing(Activity::StreamingOut),
    Paint::Doing(Activity::CopyIn),
    Paint::Doing(Activity::OpenBatch),
    Paint::Doing(Activity::IdleInTransaction),
    Paint::Doing(Activity::Idle),
    Paint::Doing(Activity::Acquiring),
    Paint::Doing(Activity::Handshake),
    Paint::Doing(Activity::Closing),
];

/// Draws how many of the lane do what over time.
pub(super) fn draw(ink: &mut Ink, lane: &Lane, bands: &[Band], what: &str, grid: &Grid, y: f64) {
    let (drawn, layout) = (&grid.drawn, grid.layout);
    let columns = layout.axis() as usize;
    let mut counts: BTreeMap<Paint, Vec<i64>> = BTreeMap::new();
    for band in bands {
        // Whoever is there in the middle of a column is counted in it.
        let column = |at: Time| ((drawn.x(at) - 0.5).ceil().max(0.0) as usize).min(columns);
        let steps = counts.entry(band.paint).or_insert_with(|| vec![0; columns + 1]);
        steps[column(band.from)] += 1;
        steps[column(band.to)] -= 1;
    }
    for (paint, steps) in &mut counts {
        if *paint == Paint::Work {
            // Most statements are shorter than a column.
            *steps = most_at_a_time(bands, columns, |at| drawn.x(at));
            continue;
        }
        let mut sum = 0;
        steps.iter_mut().for_each(|step| {
            sum += *step;
            *step = sum;
        });
    }
    let total = |column: usize| counts.values().map(|steps| steps[column]).sum::<i64>();
    let (most, busiest) = (0..columns)
        .map(|column| (total(column), column))
        .max_by_key(|(most, column)| (*most, columns - column))
        .unwrap_or_default();
    let bottom = y + BAND + CROWD_HEIGHT;
    let mut shapes = String::new();
    let mut below = vec![0; columns + 1];
    for paint in STACK {
        let Some(steps) = counts.get(&paint) else { continue };
        let height = |count: i64| bottom - CROWD_HEIGHT * count as f64 / most.max(1) as f64;
        let mut path = String::new();
        let mut from = 0;
        for column in 1..=columns {
            if column < columns && (steps[column], below[column]) == (steps[from], below[from]) {
                continue;
            }
            if steps[from] > 0 {
                let (lower, upper) = (height(below[from]), height(below[from] + steps[from]));
                let x = |column: usize| number(layout.begin() + column as f64);
                path += &format!("M{} {}V{}H{}V{}z", x(from), number(lower), number(upper), x(column), number(lower));
                ink.seen.bar(paint, (column - from) as f64, lower - upper);
            }
            from = column;
        }
        below.iter_mut().zip(steps).for_each(|(below, step)| *below += step);
        if !path.is_empty() {
            shapes += &format!("<path class=\"{}\" d=\"{path}\"/>", paint.class());
        }
    }
    if shapes.is_empty() {
        return;
    }
    let at = drawn.at(busiest as f64 + 0.5);
    let mut doing: Vec<(i64, &str)> = counts.iter().map(|(paint, steps)| (steps[busiest], paint.name())).collect();
    doing.retain(|(count, _)| *count > 0);
    doing.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let doing: Vec<String> = doing.iter().map(|(count, name)| format!("{count} {name}")).collect();
    let note = Note {
        when: drawn.when(at),
        who: lane.name.clone(),
        what: format!(
            "at most {most} {what} at a time, first here: {}. The height shows how many there are",
            doing.join(", ")
        ),
    };
    ink.item(true, layout.begin(), &note, format_args!("{shapes}"));
}

/// The most that there are at a time, column by column.
fn most_at_a_time(bands: &[Band], columns: usize, x: impl Fn(Time) -> f64) -> Vec<i64> {
    let mut changes: Vec<(Time, i64)> = bands.iter().flat_map(|band| [(band.from, 1), (band.to, -1)]).collect();
    // Of what changes at the same time, the ends come first.
    changes.sort_unstable();
    let mut most = vec![0; columns + 1];
    let (mut now, mut filled) = (0, 0);
    for (at, change) in changes {
        let column = (x(at) as usize).min(columns);
        most[filled..=column].iter_mut().for_each(|most| *most = now.max(*most));
        now += change;
        most[column] = most[column].max(now);
        filled = column;
    }
    most
}

/// Bands that are at least a column wide: each column shows what lasted longest in it.
pub(super) fn mostly(bands: &[Band], grid: &Grid) -> Vec<Band> {
    let drawn = &grid.drawn;
    let columns = grid.layout.axis() as usize;
    let mut lasted: Vec<BTreeMap<Paint, f64>> = vec![BTreeMap::new(); columns];
    for band in bands {
        let (from, to) = (drawn.x(band.from), drawn.x(band.to));
        let touched = lasted.iter_mut().enumerate().take(to as usize + 1).skip(from as usize);
        for (column, lasted) in touched {
            let part = to.min(column as f64 + 1.0) - from.max(column as f64);
            *lasted.entry(band.paint).or_default() += part.max(0.0);
        }
    }
    let mut shown: Vec<Band> = Vec::new();
    let mut end = usize::MAX;
    for (column, lasted) in lasted.iter().enumerate() {
        let Some((paint, _)) = lasted.iter().max_by(|(_, one), (_, other)| one.total_cmp(other)) else { continue };
        let (from, to) = (drawn.at(column as f64), drawn.at(column as f64 + 1.0));
        match shown.last_mut() {
            Some(last) if last.paint == *paint && end == column => last.to = to,
            _ => shown.push(Band { from, to, paint: *paint }),
        }
        end = column + 1;
    }
    shown
}

impl Drawn<'_> {
    /// A time for the details, to the millisecond.
    pub(super) fn when(&self, at: Time) -> String {
        match self.zero() {
            Some(zero) if at < zero => format!("-{}", timeline::clock(zero.since(at))),
            Some(zero) => format!("+{}", timeline::clock(at.since(zero))),
            None => timeline::clock(at.since_epoch()),
        }
    }
}
