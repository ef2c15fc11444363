//! Did you mean: what an error about an unknown word ends with.

use lastcall_core::settings;

/// `did you mean …?` for the nearest of the known words, or else what there is to choose from.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("expected {}", one_of(known)),
    }
}

/// The nearest of the known words, if one is near enough to be what was meant. Nothing here is written with capitals.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    settings::nearest(&word.to_lowercase(), known)
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
