//! How Red Hat built a layer: `root/buildinfo`.

use std::collections::HashMap;

use super::RedHatBuild;
use super::paths::file_name;
use super::text::lines;

/// The repositories that a content manifest lists; `None` if it lists none, as in other files of this directory.
///
/// # Errors
/// The file is not JSON.
pub(super) fn content_sets(content: &[u8]) -> Result<Option<RedHatBuild>, String> {
    #[derive(serde::Deserialize)]
    struct ContentManifest {
        #[serde(default)]
        content_sets: Option<Vec<String>>,
    }
    let manifest: ContentManifest = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    let content_sets = manifest.content_sets.filter(|sets| !sets.is_empty());
    Ok(content_sets.map(|content_sets| RedHatBuild { content_sets, ..RedHatBuild::default() }))
}

/// The name and the architecture that the labels of a Dockerfile state, with the version and the release of its file
/// name (`Dockerfile-ubi8-8.5-218`). `None` if it states only one of them, or builds nothing (it has no `FROM`).
pub(super) fn dockerfile(path: &str, content: &[u8]) -> Option<RedHatBuild> {
    let (mut variables, mut component, mut architecture) = (HashMap::new(), String::new(), String::new());
    let mut has_stage = false;
    for instruction in instructions(content) {
        let (name, rest) = instruction.trim_start().split_once(char::is_whitespace).unwrap_or((&instruction, ""));
        let name = name.to_ascii_uppercase();
        has_stage |= name == "FROM";
        if !matches!(&*name, "ARG" | "ENV" | "LABEL") {
            continue;
        }
        for (key, value) in assignments(rest, &variables) {
            match &*key.to_ascii_lowercase() {
                _ if name != "LABEL" => {
                    variables.insert(key, value);
                }
                "com.redhat.component" | "bzcomponent" => component = value,
                "architecture" => architecture = value,
                _ => {}
            }
        }
    }
    let mut parts = file_name(path).rsplitn(3, '-');
    let (release, version) = (parts.next()?, parts.next().unwrap_or_default());
    let image = format!("{component}-{version}-{release}-{architecture}");
    let is_complete = has_stage && !component.is_empty() && !architecture.is_empty();
    is_complete.then(|| RedHatBuild { content_sets: Vec::new(), images: vec![image] })
}

/// The instructions, with continued lines joined and comments removed.
fn instructions(content: &[u8]) -> Vec<String> {
    let mut instructions = vec![String::new()];
    for line in lines(content).filter(|line| !line.trim_start().starts_with('#')) {
        let (part, is_continued) = match line.trim_end().strip_suffix('\\') {
            Some(part) => (part, true),
            None => (&*line, false),
        };
        if let Some(last) = instructions.last_mut() {
            last.push_str(part);
        }
        if !is_continued {
            instructions.push(String::new());
        }
    }
    instructions
}

/// `KEY=VALUE …`, or `KEY VALUE` in the old form.
fn assignments(text: &str, variables: &HashMap<String, String>) -> Vec<(String, String)> {
    let words = words(text, variables);
    match &*words {
        [key, rest @ ..] if !key.contains('=') => vec![(key.clone(), rest.join(" "))],
        _ => words.iter().filter_map(|word| word.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    }
}

/// The maximum length of a word, in bytes: variables can multiply each other.
const MAX_WORD: usize = 4096;

/// The words, with quotes removed and variables replaced. Long words are truncated.
fn words(text: &str, variables: &HashMap<String, String>) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            _ if quote == Some(letter) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            '$' if quote != Some('\'') => {
                let is_braced = letters.next_if_eq(&'{').is_some();
                let is_name = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '_';
                let name: String = std::iter::from_fn(|| letters.next_if(is_name)).collect();
                if is_braced {
                    letters.by_ref().find(|letter| *letter == '}');
                }
                let value = variables.get(&name).map_or("", String::as_str);
                let word = word.get_or_insert_default();
                if word.len() + value.len() <= MAX_WORD {
                    word.push_str(value);
                }
            }
            letter if letter.is_whitespace() && quote.is_none() => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_manifests_list_repositories() {
        let sets = content_sets(br#"{"metadata": {}, "content_sets": ["rhel-8-for-x86_64-baseos-rpms"]}"#).unwrap();
        assert_eq!(sets.unwrap().content_sets, ["rhel-8-for-x86_64-baseos-rpms"]);
        assert_eq!(content_sets(br#"{"bomFormat": "CycloneDX"}"#).unwrap(), None);
        assert!(content_sets(b"broken").is_err());
    }

    #[test]
    fn variables_do_not_grow_without_limit() {
        let doubled: String = (0..60).map(|number| format!("ENV V{}=$V{number}$V{number}\n", number + 1)).collect();
        let text = format!("FROM x\nENV V0=0123456789\n{doubled}LABEL architecture=x com.redhat.component=$V60");
        let build = dockerfile("Dockerfile-x-1-2", text.as_bytes());
        assert!(build.is_none_or(|build| build.images[0].len() <= MAX_WORD + "-1-2-x".len()));
    }

    #[test]
    fn dockerfiles_name_the_image() {
        let text = b"FROM scratch\n# LABEL architecture=none\nENV NAME=ubi8 \\\n  OTHER=x\n\
            LABEL com.redhat.component=\"${NAME}-container\" \\\n      version='8.3'\nLABEL architecture \"x86_64\"\n";
        let build = dockerfile("root/buildinfo/Dockerfile-ubi8-8.3-227", text).unwrap();
        assert_eq!(build.images, ["ubi8-container-8.3-227-x86_64"]);
        let old = b"FROM rhel7\nLABEL BZComponent=\"jboss-base-7-docker\" Architecture=\"x86_64\"";
        let build = dockerfile("root/buildinfo/Dockerfile-jboss-base-7-base-1.1-3", old).unwrap();
        assert_eq!(build.images, ["jboss-base-7-docker-1.1-3-x86_64"]);
        for other in [&b"FROM x\nLABEL architecture=x86_64"[..], b"LABEL com.redhat.component=x architecture=x86_64"] {
            assert_eq!(dockerfile("root/buildinfo/Dockerfile-x-1-2", other), None);
        }
    }
}
