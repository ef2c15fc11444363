//! Text for HTML and SVG. Names and messages come from clients and servers and may be anything: they pass through here.

use std::fmt::{self, Write as _};

/// Text inside an element or a quoted attribute. Control characters, which a document can't hold, become spaces; those that
/// turn the direction of writing are shown as what they are, or a name could rearrange the line that it stands in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, |_| ' ')
    }
}

/// Writes text of an element or a quoted attribute, with what `control` makes of each control character but the line's end.
pub(super) fn escape(f: &mut fmt::Formatter<'_>, text: &str, control: impl Fn(char) -> char) -> fmt::Result {
    for character in text.chars() {
        match character {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '"' => f.write_str("&quot;")?,
            '\'' => f.write_str("&#39;")?,
            '\n' => f.write_char('\n')?,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
            character if character.is_control() => f.write_char(control(character))?,
            character => f.write_char(character)?,
        }
    }
    Ok(())
}

/// At most so many characters; what was cut shows as an ellipsis.
pub(crate) fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_chose_is_markup() {
        let name = "</script><img src=x onerror='alert(1)'>&\"\u{0}\u{1b}[31m\u{202e}";
        let text = Escaped(name).to_string();
        assert_eq!(text, "&lt;/script&gt;&lt;img src=x onerror=&#39;alert(1)&#39;&gt;&amp;&quot;  [31m\u{fffd}");
    }

    #[test]
    fn a_long_text_is_cut_at_characters() {
        assert_eq!(short("äöü", 3), "äöü");
        assert_eq!(short("äöüß", 3), "äö…");
    }
}
