//! The time axis: which silences are folded, and where a moment then lies.
//!
//! A run is short bursts and long silences: an hour in which a statement runs, seconds in which fifty clients are closed. What
//! happens is drawn to scale, and a silence that would take the room of it is folded to a mark of fixed width that names its
//! length.

use std::time::Duration;

use lastcall_core::Time;

/// The most folds of one picture.
const MOST_FOLDS: usize = 8;

/// A stretch of time without news, and how it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) from: Time,
    pub(crate) to: Time,
    /// Drawn with a fixed width, and not to scale.
    pub(crate) is_folded: bool,
}

impl Piece {
    pub(crate) fn lasts(&self) -> Duration {
        self.to.since(self.from)
    }
}

/// The time axis of one picture: pieces without gaps between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// From where on times are told, if not from the run's begin.
    pub(crate) zero: Option<Time>,
    pub(crate) pieces: Vec<Piece>,
}

impl Axis {
    /// One from the first to the last of these moments. `main` must not be folded away to nothing: it gets a third of what is
    /// drawn to scale, if that can be had, and is itself folded only where nothing happens in most of it.
    pub(crate) fn of(mut moments: Vec<Time>, main: Option<(Time, Time)>) -> Axis {
        moments.sort_unstable();
        moments.dedup();
        let gaps: Vec<(Time, Time)> = moments.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let whole = moments.last().zip(moments.first()).map_or(Duration::ZERO, |(last, first)| last.since(*first));
        let length = main.map(|(from, to)| to.since(from)).filter(|length| !length.is_zero());
        let most = length.map_or(whole / 4, |length| length * 2 / 3);
        let is_main = |(from, to): (Time, Time)| main.is_some_and(|(begin, end)| begin <= from && to <= end);
        let most_of = |gap: (Time, Time), longest: Duration| if is_main(gap) { most } else { longest };
        let shown = |longest| gaps.iter().map(|gap| gap.1.since(gap.0).min(most_of(*gap, longest))).sum::<Duration>();
        let mut longest = most;
        for _ in 0..5 {
            if length.is_none_or(|length| shown(longest) <= length * 3) {
                break;
            }
            longest /= 2;
        }
        let mut lengths: Vec<Duration> =
            gaps.iter().filter(|gap| !is_main(**gap)).map(|(from, to)| to.since(*from)).collect();
        lengths.sort_unstable_by(|one, other| other.cmp(one));
        // One more may be in the main part, which has no room for two.
        if let Some(next) = lengths.get(MOST_FOLDS - 1) {
            longest = longest.max(*next);
        }
        let mut axis = Axis { zero: None, pieces: Vec::new() };
        for (from, to) in gaps {
            let longest = most_of((from, to), longest);
            if to.since(from) > longest {
                // Neither end touches the fold: what happened there is seen to have happened outside it.
                let edge = longest / 12;
                let begin = from + edge;
                let end = begin + (to.since(begin) - edge);
                axis.push(from, begin, false);
                axis.push(begin, end, true);
                axis.push(end, to, false);
            } else {
                axis.push(from, to, false);
            }
        }
        if axis.pieces.is_empty() {
            let only = moments.first().copied().unwrap_or(Time::EPOCH);
            axis.push(only, only + Duration::from_millis(1), false);
        }
        axis
    }

    fn push(&mut self, from: Time, to: Time, is_folded: bool) {
        match self.pieces.last_mut() {
            Some(last) if !last.is_folded && !is_folded => last.to = to,
            _ => self.pieces.push(Piece { from, to, is_folded }),
        }
    }

    pub(crate) fn begin(&self) -> Time {
        self.pieces[0].from
    }

    pub(crate) fn end(&self) -> Time {
        self.pieces[self.pieces.len() - 1].to
    }

    pub(crate) fn folds(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().filter(|piece| piece.is_folded)
    }

    /// The axis on `width` units, of which each fold takes `fold`.
    pub(crate) fn drawn(&self, width: f64, fold: f64) -> Drawn<'_> {
        let to_scale: Duration = self.pieces.iter().filter(|piece| !piece.is_folded).map(Piece::lasts).sum();
        let rest = (width - fold * self.folds().count() as f64).max(0.0);
        let unit = rest / to_scale.as_secs_f64().max(f64::MIN_POSITIVE);
        let mut begins = vec![0.0];
        for piece in &self.pieces {
            let wide = if piece.is_folded { fold } else { piece.lasts().as_secs_f64() * unit };
            begins.push(begins[begins.len() - 1] + wide);
        }
        Drawn { axis: self, begins }
    }
}

/// An axis on paper.
#[derive(Clone, Debug)]
pub(crate) struct Drawn<'a> {
    axis: &'a Axis,
    /// Where each piece begins, and the end of the last.
    begins: Vec<f64>,
}

impl Drawn<'_> {
    /// From where on times are told, if not from the run's begin.
    pub(crate) fn zero(&self) -> Option<Time> {
        self.axis.zero
    }

    /// Where this moment lies. What is outside the axis lies at its end.
    pub(crate) fn x(&self, at: Time) -> f64 {
        let pieces = &self.axis.pieces;
        let index = pieces.partition_point(|piece| piece.to < at).min(pieces.len() - 1);
        let piece = pieces[index];
        let part = at.since(piece.from).as_secs_f64() / piece.lasts().as_secs_f64().max(f64::MIN_POSITIVE);
        self.begins[index] + part.clamp(0.0, 1.0) * (self.begins[index + 1] - self.begins[index])
    }

    /// The moment that lies here.
    pub(crate) fn at(&self, x: f64) -> Time {
        let pieces = &self.axis.pieces;
        let index = self.begins[1..].partition_point(|end| *end < x).min(pieces.len() - 1);
        let wide = (self.begins[index + 1] - self.begins[index]).max(f64::MIN_POSITIVE);
        let part = ((x - self.begins[index]) / wide).clamp(0.0, 1.0);
        pieces[index].from + pieces[index].lasts().mul_f64(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    fn axis(moments: &[u64]) -> Axis {
        Axis::of(moments.iter().map(|seconds| at(*seconds)).collect(), Some((at(60), at(90))))
    }

    #[test]
    fn a_long_silence_is_folded_and_what_happens_is_to_scale() {
        let axis = axis(&[58, 60, 65, 75, 90, 3_660]);
        let folds: Vec<u64> = axis.folds().map(|fold| fold.lasts().as_secs()).collect();
        assert_eq!(folds.len(), 1, "{axis:?}");
        assert!(folds[0] > 3_500, "{folds:?}");
        let drawn = axis.drawn(1_000.0, 30.0);
        let [signal, lame_duck, due] = [60, 65, 75].map(|seconds| drawn.x(at(seconds)));
        assert!((2.0 * (lame_duck - signal) - (due - lame_duck)).abs() < 1e-6);
        assert!(drawn.x(at(58)).abs() < 1e-6 && (drawn.x(at(3_660)) - 1_000.0).abs() < 1e-6);
    }

    #[test]
    fn where_a_moment_lies_is_where_it_is_found() {
        let axis = axis(&[0, 60, 90, 4_000]);
        let drawn = axis.drawn(800.0, 40.0);
        for seconds in [0, 30, 61, 80, 2_000, 3_999] {
            let found = drawn.at(drawn.x(at(seconds)));
            assert!(found.since(at(seconds)).max(at(seconds).since(found)) < Duration::from_millis(1), "{seconds}");
        }
    }

    #[test]
    fn a_run_of_a_single_moment_has_an_axis_too() {
        assert_eq!(axis(&[7]).drawn(100.0, 10.0).x(at(7)), 0.0);
        assert_eq!(axis(&[]).pieces.len(), 1);
    }

    #[test]
    fn the_number_of_folds_is_limited() {
        let many: Vec<u64> = (0..100).map(|n| n * 1_000).collect();
        assert!(axis(&many).folds().count() <= MOST_FOLDS);
        let longer: Vec<u64> = (0..100).map(|n| n * (1_000 + n)).collect();
        assert!(axis(&longer).folds().count() <= MOST_FOLDS);
    }
}
