//! Guesses what was meant, for hints and for documents that a typing mistake would hide.

/// The candidate nearest to a text, if one is near enough to have been meant.
pub fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let limit = (text.len() / 2).clamp(1, 3);
    candidates
        .iter()
        .map(|candidate| (distance(&text.to_ascii_lowercase(), &candidate.to_ascii_lowercase()), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, removed or replaced (Levenshtein). Long strings count as far from everything,
/// because the work grows with the product of the lengths.
pub fn distance(a: &str, b: &str) -> usize {
    if a.len() > 100 || b.len() > 100 { usize::MAX } else { strsim::levenshtein(a, b) }
}
