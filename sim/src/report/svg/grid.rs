//! Where things lie: the time axis on paper, and what no word may run into.

use lastcall_core::Time;

use super::Layout;
use super::ink::Slots;
use crate::report::picture::Picture;
use crate::report::picture::axis::Drawn;

/// Free room at both sides of a line that crosses every lane.
const BESIDE_A_LINE: f64 = 2.0;

/// How much of the time axis folds may take.
const MOST_OF_AXIS: f64 = 0.6;

/// The time axis of a picture in one of its layouts.
#[derive(Debug)]
pub(super) struct Grid<'a> {
    pub(super) layout: Layout,
    pub(super) drawn: Drawn<'a>,
    /// From where to where lines go that are drawn over all lanes; in their order.
    lines: Vec<(f64, f64)>,
    /// These, and folds.
    obstacles: Vec<(f64, f64)>,
}

impl Grid<'_> {
    pub(super) fn of(picture: &Picture, layout: Layout) -> Grid<'_> {
        let folds = picture.axis.folds().count();
        let fold = layout.fold.min(layout.axis() * MOST_OF_AXIS / folds.max(1) as f64);
        let drawn = picture.axis.drawn(layout.axis(), fold);
        let mut grid = Grid { layout, drawn, lines: Vec::new(), obstacles: Vec::new() };
        let lines = picture.rules.iter().filter(|rule| rule.kind.is_over()).map(|rule| grid.x(rule.at));
        grid.lines = lines.map(|x| (x - BESIDE_A_LINE, x + BESIDE_A_LINE)).collect();
        let folds = picture.axis.folds().map(|fold| (grid.x(fold.from), grid.x(fold.to)));
        grid.obstacles = folds.chain(grid.lines.iter().copied()).collect();
        grid.obstacles.sort_by(|one, other| one.0.total_cmp(&other.0));
        grid
    }

    /// Where this moment lies.
    pub(super) fn x(&self, at: Time) -> f64 {
        self.layout.begin() + self.drawn.x(at)
    }

    /// The widest stretch between these two in which nothing is in the way of a word in a bar.
    pub(super) fn in_bar(&self, from: f64, to: f64) -> (f64, f64) {
        widest(&self.obstacles, from, to)
    }

    /// The widest stretch between these two above the lanes, where nothing is torn.
    pub(super) fn above(&self, from: f64, to: f64) -> (f64, f64) {
        widest(&self.lines, from, to)
    }

    /// A row of a lane for words beside marks, without what is in their way. A fold is not: its edges make room for them.
    pub(super) fn row(&self) -> Slots {
        let mut row = Slots::default();
        self.lines.iter().for_each(|(from, to)| row.block(*from, *to));
        row
    }
}

/// The widest stretch between these two that is none of these, which are in order.
fn widest(obstacles: &[(f64, f64)], from: f64, to: f64) -> (f64, f64) {
    let mut widest = (from, from);
    let mut free = from;
    let ends = obstacles.iter().copied().filter(|(begin, end)| *end > from && *begin < to).chain([(to, to)]);
    for (begin, end) in ends {
        if begin - free > widest.1 - widest.0 {
            widest = (free, begin);
        }
        free = end.max(free);
    }
    widest
}
