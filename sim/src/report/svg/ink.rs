//! What is drawn with: text in the making, things that have details, and room for words.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use crate::report::html::{Escaped, short};
use crate::report::picture::{Note, Paint, Sign};

/// SVG in the making.
#[derive(Debug)]
pub(super) struct Ink {
    text: String,
    /// Its things can be reached with a keyboard.
    is_live: bool,
    /// What the legend has to explain.
    pub(super) seen: Seen,
}

/// What was drawn large enough to be seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) paints: BTreeSet<Paint>,
    pub(super) signs: BTreeSet<Sign>,
    pub(super) folds: bool,
}

/// What covers less than this is a speck, in whatever colour.
const VISIBLE: f64 = 20.0;

impl Seen {
    /// Something of this paint is so large.
    pub(super) fn bar(&mut self, paint: Paint, wide: f64, high: f64) {
        if wide * high >= VISIBLE {
            self.paints.insert(paint);
        }
    }
}

impl Ink {
    pub(super) fn new(is_live: bool) -> Ink {
        Ink { text: String::new(), is_live, seen: Seen::default() }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn add(&mut self, what: fmt::Arguments<'_>) {
        let _infallible = self.text.write_fmt(what);
    }

    /// Opens a group of things.
    pub(super) fn open(&mut self, class: &str, name: &str) {
        self.add(format_args!("<g class=\"{class}\" role=\"group\" aria-label=\"{}\">\n", Escaped(name)));
    }

    pub(super) fn close(&mut self) {
        self.text.push_str("</g>\n");
    }

    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
        let (x, y) = (number(x), number(y));
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>\n",
            Escaped(text)
        ));
    }

    /// A thing with details: three lines of its title. One that is too small to be hit is only drawn.
    pub(super) fn item(&mut self, is_reached: bool, x: f64, note: &Note, shape: fmt::Arguments<'_>) {
        if !is_reached {
            self.add(shape);
            self.text.push('\n');
            return;
        }
        let one_line = |text: &str| text.replace(['\n', '\r'], " ");
        let [when, who, what] = [&note.when, &note.who, &note.what].map(|text| one_line(text));
        let title = format!("{when}\n{who}\n{what}");
        if self.is_live {
            self.add(format_args!("<g class=\"i\" role=\"button\" tabindex=\"-1\" data-x=\"{}\">", number(x)));
        } else {
            self.text.push_str("<g>");
        }
        self.add(format_args!("<title>{}</title>{shape}</g>\n", Escaped(&title)));
    }
}

/// A coordinate: a tenth of a unit is finer than a screen.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// About how wide a text is in this size, and rather too wide: in one of the wider fonts that a reader may have.
pub(super) fn width_of(text: &str, size: f64) -> f64 {
    let em = |character: char| match character {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' | '·' => 0.34,
        'f' | 'r' | 't' | '(' | ')' | '-' | '/' => 0.42,
        's' | 'c' | 'k' | 'v' | 'x' | 'y' | 'z' | '_' => 0.6,
        'm' | 'w' | 'M' | 'W' | '…' | '%' => 1.0,
        '+' | '−' | '×' | '<' | '>' | '=' => 0.84,
        character if character.is_ascii_uppercase() => 0.75,
        character if character.is_ascii() => 0.64,
        _ => 1.0,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// The same of a bold one.
pub(super) fn width_of_bold(text: &str, size: f64) -> f64 {
    width_of(text, size) * 1.12
}

/// As much of a text as has room, with an ellipsis for what has not.
pub(super) fn fitting(text: &str, room: f64, width_of: impl Fn(&str) -> f64) -> String {
    let all = text.chars().count();
    let most = (0..=all).rev().map(|most| short(text, most)).find(|short| width_of(short) <= room);
    most.unwrap_or_default()
}

/// Which parts of a row are taken.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<(f64, f64)>);

impl Slots {
    /// Nobody else gets this.
    pub(super) fn block(&mut self, from: f64, to: f64) {
        self.0.push((from, to));
    }

    /// Takes this, if it is free.
    pub(super) fn take(&mut self, from: f64, to: f64) -> bool {
        let is_free = self.0.iter().all(|(begin, end)| to <= *begin || *end <= from);
        if is_free {
            self.block(from, to);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_not_given_twice() {
        let mut row = Slots::default();
        assert!(row.take(0.0, 10.0));
        assert!(!row.take(9.0, 12.0));
        assert!(row.take(10.0, 12.0));
    }

    #[test]
    fn a_label_is_cut_where_its_room_ends() {
        let narrow = |text: &str| text.chars().count() as f64;
        assert_eq!(fitting("dashboard", 9.0, narrow), "dashboard");
        assert_eq!(fitting("dashboard", 4.0, narrow), "das…");
        assert_eq!(fitting("dashboard", -1.0, narrow), "");
        assert!(width_of("+7m05s", 11.0) > 46.0, "as wide as it is drawn");
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([0.0, 1.04, 10.96].map(number), ["0", "1", "11"]);
        assert_eq!(number(2.25), "2.2");
    }

    #[test]
    fn details_are_three_lines_whatever_they_say() {
        let mut ink = Ink::new(true);
        let note = Note { when: "+1s".to_owned(), who: "<b>\nx".to_owned(), what: "said \"&\"".to_owned() };
        ink.item(true, 1.0, &note, format_args!(""));
        assert!(ink.into_text().contains("<title>+1s\n&lt;b&gt; x\nsaid &quot;&amp;&quot;</title>"));
    }
}
