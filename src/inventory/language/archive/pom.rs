//! The version and the licences in a project file of Maven, `pom.xml` (maven.apache.org/pom.html). No parser of XML is
//! needed for names in a fixed structure, and none of its entities are expanded but the five that XML defines.

use super::is_placeholder;

/// The maximum number of licences of a project.
const MAX_LICENSES: usize = 16;

/// The names of the licences. Those of a parent project are not in the file.
pub(super) fn licenses(text: &str) -> Vec<String> {
    let text = without_comments(text);
    let Some(list) = element(&text, "licenses") else { return Vec::new() };
    let (mut rest, mut names) = (list, Vec::new());
    while let Some(license) = element(rest, "license").filter(|_| names.len() < MAX_LICENSES) {
        let name = element(license, "name").map(unescaped).unwrap_or_default();
        if !name.is_empty() {
            names.push(name);
        }
        rest = rest.split_once("</license>").map_or("", |(_, rest)| rest);
    }
    names
}

/// The version of the project, which is that of its parent unless stated. `None` if it is not stated, or in a property
/// that only Maven knows.
pub(super) fn version(text: &str) -> Option<String> {
    let text = without_comments(text);
    let (mut open, mut own, mut of_parent) = (Vec::new(), None, None);
    for tag in text.split('<').skip(1) {
        let (name, content) = tag.split_once('>')?;
        match name.as_bytes() {
            [] | [b'?' | b'!', ..] | [.., b'/'] => {}
            [b'/', ..] => drop(open.pop()),
            _ => open.push(name.split_whitespace().next().unwrap_or_default()),
        }
        let place = match &*open {
            ["project", "version"] => &mut own,
            ["project", "parent", "version"] => &mut of_parent,
            _ => continue,
        };
        place.get_or_insert_with(|| unescaped(content));
    }
    own.or(of_parent).filter(|version| !version.is_empty() && !is_placeholder(version))
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!--") {
        out += before;
        rest = after.split_once("-->").map_or("", |(_, after)| after);
    }
    out + rest
}

/// The content of the first element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(content, _)| content)
}

fn unescaped(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    entities.into_iter().fold(words, |text, (entity, character)| text.replace(entity, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_project_or_its_parent() {
        let dependency = "<dependencies><dependency><version>9</version></dependency></dependencies>";
        let parent = "<parent><groupId>g</groupId><version>1</version></parent>";
        for (content, expected) in [
            ("<version>2</version>", Some("2")),
            (&*format!("<?xml?><modelVersion>4.0.0</modelVersion>{dependency}<version> 2 </version>"), Some("2")),
            (&format!("{parent}<name/>{dependency}"), Some("1")),
            (&format!("{parent}<version>2</version>"), Some("2")),
            (&format!("{parent}<version>${{revision}}</version>"), None),
            ("<!-- <version>2</version> -->", None),
            (dependency, None),
            ("<version", None),
        ] {
            let text = format!("<project xmlns=\"x\" a=\"b\">{content}</project>");
            assert_eq!(version(&text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_are_read() {
        let pom = "<project>\n<!-- <licenses><license><name>No</name></license></licenses> -->\n<licenses>\n<license>\n\
            <name>Apache License,\n Version 2.0</name>\n<url>x</url></license><license><name>A &amp; B</name></license>\
            <license><url>x</url></license></licenses><name>x</name></project>";
        assert_eq!(licenses(pom), ["Apache License, Version 2.0", "A & B"]);
        for text in ["", "<licenses>", "<licenses><license>", "<project><name>x</name></project>", "<!--"] {
            assert_eq!(licenses(text), [""; 0], "{text}");
        }
    }
}
