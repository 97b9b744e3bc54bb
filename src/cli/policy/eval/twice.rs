//! Keys that occur twice in an object. Most parsers silently use the last one, so a case would be judged by only half
//! of its content.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What is wrong if an object of a JSON text has a key twice, with both places. The text must be valid JSON.
pub(super) fn duplicate_key(text: &str) -> Option<String> {
    // The keys of the objects that are open, with their places; `None` for a list.
    let mut open: Vec<Option<HashMap<String, usize>>> = Vec::new();
    let mut is_key = false;
    let mut characters = text.char_indices().zip(1_usize..);
    while let Some(((start, character), column)) = characters.next() {
        match character {
            '{' => {
                open.push(Some(HashMap::new()));
                is_key = true;
            }
            '[' => {
                open.push(None);
                is_key = false;
            }
            '}' | ']' => {
                open.pop();
            }
            ',' => is_key = matches!(open.last(), Some(Some(_))),
            ':' => is_key = false,
            '"' => {
                let end = end_of_string(&mut characters)?;
                let Some(Some(keys)) = open.last_mut().filter(|_| is_key) else { continue };
                let key: String = serde_json::from_str(&text[start..=end]).ok()?;
                match keys.entry(key) {
                    Entry::Vacant(entry) => {
                        entry.insert(column);
                    }
                    Entry::Occupied(first) => {
                        let (key, first) = (first.key(), first.get());
                        return Some(format!("{key:?} occurs twice: at characters {first} and {column} of the line"));
                    }
                }
            }
            _ => {}
        }
    }
    None
}

/// The index of the quote that ends a string, whose first quote was read.
fn end_of_string(characters: &mut impl Iterator<Item = ((usize, char), usize)>) -> Option<usize> {
    while let Some(((at, character), _)) = characters.next() {
        match character {
            '"' => return Some(at),
            '\\' => {
                characters.next();
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_keys_with_their_places() {
        for (text, expected) in [
            (r#"{"a":1,"b":2}"#, None),
            (r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#, None),
            (r#"{"a":"a","b":["a","a","{\"a\":1,\"a\":2}"]}"#, None),
            (r#"["a","a"]"#, None),
            (r#"{"a":1,"a":2}"#, Some((2, 8))),
            (r#"{"ü":"\\","ü":2}"#, Some((2, 11))),
            (r#"{"a": 1, "\u0061": 2}"#, Some((2, 10))),
            (r#"{"x":[{"b":{},"a":[1,{}],"a":2}]}"#, Some((15, 26))),
        ] {
            let places =
                expected.map(|(first, second)| format!(" occurs twice: at characters {first} and {second} of"));
            let found = duplicate_key(text);
            match &places {
                None => assert_eq!(found, None, "{text}"),
                Some(places) => {
                    assert!(found.as_ref().is_some_and(|found| found.contains(places)), "{text}: {found:?}");
                }
            }
        }
    }
}
