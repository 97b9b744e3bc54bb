//! The licences in a project file of Maven, `pom.xml` (maven.apache.org/pom.html, "Licenses"). No parser of XML is needed for
//! names in a fixed structure, and none of its entities are expanded but the five that XML defines.

/// The most licences of a project.
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
