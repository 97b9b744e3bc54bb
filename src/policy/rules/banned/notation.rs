//! Ranges of versions as NuGet and Composer write them, as comparisons.

use std::borrow::Cow;

/// The same range as comparisons that [`VersionRange`](crate::version::VersionRange) reads; `None` if the text is not a
/// range in the notation of this kind of package. Other kinds need no translation.
pub(super) fn comparisons<'a>(kind: &str, text: &'a str) -> Option<Cow<'a, str>> {
    match kind {
        "nuget" => nuget(text.trim()),
        "composer" => {
            let alternatives = text.replace("||", "|");
            let translated: Option<Vec<String>> = alternatives.split('|').map(composer).collect();
            Some(translated?.join(" || ").into())
        }
        _ => Some(text.into()),
    }
}

/// An interval (`[1.0,2.0)`, `(,1.0]`, `[1.0]`), a floating version (`1.*`), or comparisons (learn.microsoft.com/nuget,
/// "Version ranges").
fn nuget(text: &str) -> Option<Cow<'_, str>> {
    if let Some(start) = text.strip_suffix(".*") {
        let numbers = numbers(start).filter(|_| is_plain(start))?;
        // `0` is the first of all pre-releases.
        return Some(format!(">={start} <{}-0", next(&numbers, numbers.len())?).into());
    }
    let Some(inner) = text.strip_prefix(['[', '(']) else { return Some(text.into()) };
    let inner = inner.strip_suffix([']', ')'])?;
    let (includes_low, includes_high) = (text.starts_with('['), text.ends_with(']'));
    let Some((low, high)) = inner.split_once(',') else {
        return (includes_low && includes_high).then(|| format!("={}", inner.trim()).into());
    };
    let bound = |operator: &str, is_included: bool, version: &str| {
        let version = version.trim();
        (!version.is_empty()).then(|| format!("{operator}{}{version}", if is_included { "=" } else { "" }))
    };
    let bounds = [bound(">", includes_low, low), bound("<", includes_high, high)];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    // `(,)` is every version.
    Some(if bounds.is_empty() { "*".into() } else { bounds.join(" ").into() })
}

/// Conditions that must all hold (getcomposer.org/doc/articles/versions.md): comparisons, `^1.2`, `~1.2`, `1.2.*`,
/// `1.0 - 2.0`. As in Composer, a bound that is written without a stability begins with the development versions.
fn composer(text: &str) -> Option<String> {
    if let Some((low, high)) = text.split_once(" - ") {
        let (low, high) = (low.trim(), high.trim());
        let numbers = numbers(high)?;
        let end = if numbers.len() < 3 && is_plain(high) {
            format!("<{}-dev", next(&numbers, numbers.len())?)
        } else {
            format!("<={high}")
        };
        return Some(format!(">={} {end}", from(low)));
    }
    let mut all = Vec::new();
    let mut operator = "";
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        if word.bytes().all(|byte| b"<>=!~^".contains(&byte)) && operator.is_empty() {
            operator = word;
            continue;
        }
        all.extend(condition(&format!("{operator}{word}"))?);
        operator = "";
    }
    let is_whole = operator.is_empty() && !text.trim().is_empty();
    is_whole.then(|| if all.is_empty() { "*".to_owned() } else { all.join(" ") })
}

/// One condition; nothing for one that always holds.
fn condition(word: &str) -> Option<Option<String>> {
    if word == "*" {
        return Some(None);
    }
    let between = |start: &str, position: usize| {
        let end = next(&numbers(start)?, position)?;
        Some(Some(format!(">={} <{end}-dev", from(start))))
    };
    if let Some(start) = word.strip_prefix('^') {
        let numbers = numbers(start)?;
        let position = numbers.iter().take(3).position(|number| *number != 0);
        return between(start, position.map_or(numbers.len().min(3), |at| at + 1));
    }
    if let Some(start) = word.strip_prefix('~') {
        return between(start, numbers(start)?.len().saturating_sub(1).max(1));
    }
    if let Some(start) = word.strip_suffix(".*").or(word.strip_suffix(".x")).or(word.strip_suffix(".X")) {
        let count = numbers(start).filter(|_| is_plain(start))?.len();
        return between(start, count);
    }
    Some(Some(word.to_owned()))
}

/// The numbers at the beginning of a version, at most four.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let numbers: Option<Vec<u64>> = version[..end].split('.').map(|number| number.parse().ok()).collect();
    numbers.filter(|numbers| numbers.len() <= 4)
}

/// Whether a version has numbers only.
fn is_plain(version: &str) -> bool {
    version.trim_start_matches(['v', 'V']).bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// The lower bound of a range.
fn from(version: &str) -> String {
    if is_plain(version) { format!("{version}-dev") } else { version.to_owned() }
}

/// The first version after those that begin with this many of the numbers.
fn next(numbers: &[u64], count: usize) -> Option<String> {
    let (last, start) = numbers.get(..count)?.split_last()?;
    let all = start.iter().copied().chain([last.checked_add(1)?]);
    Some(all.map(|number| number.to_string()).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_comparisons() {
        for (kind, text, expected) in [
            ("nuget", "[1.0,2.0)", Some(">=1.0 <2.0")),
            ("nuget", "(1.0, 2.0]", Some(">1.0 <=2.0")),
            ("nuget", "(,1.0]", Some("<=1.0")),
            ("nuget", "[1.0,)", Some(">=1.0")),
            ("nuget", "(,)", Some("*")),
            ("nuget", "[1.0]", Some("=1.0")),
            ("nuget", "(1.0)", None),
            ("nuget", "[1.0", None),
            ("nuget", "1.*", Some(">=1 <2-0")),
            ("nuget", ">=1.0 <2.0", Some(">=1.0 <2.0")),
            ("composer", "^1.2.3", Some(">=1.2.3-dev <2-dev")),
            ("composer", "^0.3", Some(">=0.3-dev <0.4-dev")),
            ("composer", "^0.0.3", Some(">=0.0.3-dev <0.0.4-dev")),
            ("composer", "^0", Some(">=0-dev <1-dev")),
            ("composer", "^v1.2-beta1", Some(">=v1.2-beta1 <2-dev")),
            ("composer", "~1.2", Some(">=1.2-dev <2-dev")),
            ("composer", "~1.2.3", Some(">=1.2.3-dev <1.3-dev")),
            ("composer", "~1", Some(">=1-dev <2-dev")),
            ("composer", "1.2.*", Some(">=1.2-dev <1.3-dev")),
            ("composer", "1.x", Some(">=1-dev <2-dev")),
            ("composer", "1.0 - 2.0", Some(">=1.0-dev <2.1-dev")),
            ("composer", "1.0.0 - 2.1.0", Some(">=1.0.0-dev <=2.1.0")),
            ("composer", ">= 1.0, <1.5 | ^2.0", Some(">=1.0 <1.5 || >=2.0-dev <3-dev")),
            ("composer", "*", Some("*")),
            ("composer", "^", None),
            ("composer", "", None),
            ("composer", "^latest", None),
            ("composer", ">=1.0 ||", None),
            ("npm", "^1.2", Some("^1.2")),
        ] {
            assert_eq!(comparisons(kind, text).as_deref(), expected, "{kind} {text}");
        }
    }
}
