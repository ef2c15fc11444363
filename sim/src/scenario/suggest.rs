//! Did you mean: what an error about an unknown word ends with.

/// `did you mean …?` for the nearest of the known words, or else what there is to choose from.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("expected {}", one_of(known)),
    }
}

/// The nearest of the known words, if one is near enough to be what was meant. Nothing here is written with capitals.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Below this, guesses are more often wrong than right.
    const ALIKE: f64 = 0.85;
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&word, known), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// `one of a, b, c`, or the word alone if there is one.
pub(super) fn one_of<'k>(known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<String> = known.into_iter().map(|word| format!("`{word}`")).collect();
    match known.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        many => format!("one of {}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_finds_the_list() {
        let known = ["sigterm", "sigint"];
        assert_eq!(did_you_mean("SIGTERM", known), "did you mean `sigterm`?");
        assert_eq!(did_you_mean("heal", known), "expected one of `sigterm`, `sigint`");
        assert_eq!(did_you_mean("heal", []), "expected nothing");
    }
}
