//! Versions of Java archives (Maven's `ComparableVersion`).
//!
//! See <https://maven.apache.org/pom.html#version-order-specification>.

use std::cmp::Ordering;

use super::number::{Decimal, is_number};

/// A version of a Java archive: numbers and words, in lists that each `-` and each change between digits and letters
/// nest deeper. The depth is at most the length of a version.
#[derive(Debug)]
pub(super) struct MavenVersion(Vec<MavenItem>);

#[derive(Debug)]
enum MavenItem {
    Number(String),
    /// A qualifier, with aliases replaced.
    Word(String),
    List(Vec<Self>),
}

/// The known qualifiers in their order. Others come after them, in alphabetical order.
const QUALIFIERS: [&str; 7] = ["alpha", "beta", "milestone", "rc", "snapshot", "", "sp"];

impl MavenVersion {
    /// Every text has a place in the order.
    pub(super) fn parse(text: &str) -> Self {
        let mut lists = vec![Vec::new()];
        let mut token = String::new();
        for character in text.to_ascii_lowercase().chars() {
            if matches!(character, '.' | '-') {
                let item = if token.is_empty() { MavenItem::Number(String::new()) } else { item(&token, false) };
                push(&mut lists, item);
                token.clear();
                if character == '-' {
                    lists.push(Vec::new());
                }
                continue;
            }
            let changes = token.ends_with(|last: char| last.is_ascii_digit() != character.is_ascii_digit());
            if changes {
                push(&mut lists, item(&token, character.is_ascii_digit()));
                token.clear();
                lists.push(Vec::new());
            }
            token.push(character);
        }
        if !token.is_empty() {
            push(&mut lists, item(&token, false));
        }
        let mut nested: Option<Vec<MavenItem>> = None;
        for (depth, list) in lists.into_iter().enumerate().rev() {
            let mut list = without_nulls(list);
            // A list that is equal to nothing does not count: `1-ga-1` is `1-1`, `1-final` is `1`.
            if depth > 0 && list.is_empty() {
                continue;
            }
            list.extend(nested.map(MavenItem::List));
            nested = Some(list);
        }
        Self(nested.unwrap_or_default())
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        compare_lists(&self.0, &other.0)
    }
}

fn push(lists: &mut [Vec<MavenItem>], item: MavenItem) {
    if let Some(list) = lists.last_mut() {
        list.push(item);
    }
}

fn item(token: &str, digit_follows: bool) -> MavenItem {
    if is_number(token) {
        return MavenItem::Number(token.trim_start_matches('0').to_owned());
    }
    let word = match token {
        "a" if digit_follows => "alpha",
        "b" if digit_follows => "beta",
        "m" if digit_follows => "milestone",
        "cr" => "rc",
        "ga" | "final" | "release" => "",
        other => other,
    };
    MavenItem::Word(word.to_owned())
}

/// Removes the trailing items that are equal to nothing.
fn without_nulls(mut list: Vec<MavenItem>) -> Vec<MavenItem> {
    while list.last().is_some_and(MavenItem::is_null) {
        list.pop();
    }
    list
}

impl MavenItem {
    fn is_null(&self) -> bool {
        match self {
            Self::Number(text) | Self::Word(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
        }
    }

    fn compare_to_nothing(&self) -> Ordering {
        match self {
            Self::Number(digits) if digits.is_empty() => Ordering::Equal,
            Self::Number(_) => Ordering::Greater,
            Self::Word(word) => rank(word).cmp(&rank("")),
            Self::List(list) => {
                list.iter().map(Self::compare_to_nothing).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
            }
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => Decimal::new(a).cmp(&Decimal::new(b)),
            (Self::Word(a), Self::Word(b)) => rank(a).cmp(&rank(b)),
            (Self::List(a), Self::List(b)) => compare_lists(a, b),
            (a, b) => a.kind().cmp(&b.kind()),
        }
    }

    /// Words are before lists, lists before numbers.
    fn kind(&self) -> u8 {
        match self {
            Self::Word(_) => 0,
            Self::List(_) => 1,
            Self::Number(_) => 2,
        }
    }
}

fn rank(word: &str) -> (usize, &str) {
    let known = QUALIFIERS.iter().position(|qualifier| *qualifier == word);
    known.map_or((QUALIFIERS.len(), word), |index| (index, ""))
}

fn compare_lists(a: &[MavenItem], b: &[MavenItem]) -> Ordering {
    for index in 0..a.len().max(b.len()) {
        let order = match (a.get(index), b.get(index)) {
            (Some(a), Some(b)) => a.compare(b),
            (Some(a), None) => a.compare_to_nothing(),
            (None, Some(b)) => b.compare_to_nothing().reverse(),
            (None, None) => Ordering::Equal,
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}
