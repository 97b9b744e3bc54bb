//! Streamed lists of tags: some registries return all tags of a repository at once, with a description of every
//! manifest, which can amount to megabytes.

use std::mem;

use bytes::Bytes;
use json_event_parser::{JsonEvent, LowLevelJsonParser};
use tokio::time::{Instant, timeout_at};

use super::body::Inbound;
use super::encoding::Unpacker;
use crate::http_client::PieceSource;
use crate::oci::{Host, Page, Tag};
use crate::upstream::Error;
use crate::upstream::config::Config;

/// The maximum length of a key, string or number in a response, in bytes; a tag has at most 128.
const MAX_TOKEN: usize = 16 * 1024;

/// The maximum nesting depth of a response.
const MAX_DEPTH: usize = 64;

/// A page of a repository's tags that is being read.
pub struct TagList {
    /// The query for the next page.
    pub next: Option<Page>,
    /// `None` once nothing more is expected, so that another request may take the turn.
    body: Option<Inbound>,
    /// Received data that is not parsed yet.
    rest: Bytes,
    unpacker: Unpacker,
    parser: TagParser,
    deadline: Instant,
    host: Host,
}

impl TagList {
    pub(in crate::upstream) fn new(next: Option<Page>, body: Inbound, config: &Config) -> Self {
        Self {
            next,
            body: Some(body),
            rest: Bytes::new(),
            unpacker: Unpacker::default(),
            parser: TagParser::new(),
            deadline: Instant::now() + config.body_timeout,
            host: config.host.clone(),
        }
    }

    /// The next tags, in the order of the list; `None` at the end of a complete list. Names that violate the grammar of
    /// the specification are removed, because nobody could request them here. Nothing follows an error.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the response is not a list of tags; [`Error::Unavailable`] if it is interrupted, or takes
    /// longer than the upstream's `body_timeout`, including the time during which the caller reads no tags.
    pub async fn next(&mut self) -> Option<Result<Vec<Tag>, Error>> {
        loop {
            let body = self.body.as_mut()?;
            let piece = match self.rest.is_empty() {
                true => timeout_at(self.deadline, body.next_piece()).await,
                false => Ok(Some(Ok(mem::take(&mut self.rest)))),
            };
            let outcome = match piece {
                Ok(Some(Ok(bytes))) => self.read(bytes).map_err(|why| self.no_list(&why)),
                Ok(Some(Err(error))) => Err(Error::unread(&self.host, &error)),
                Ok(None) => {
                    self.body = None;
                    self.finish().map_err(|why| self.no_list(&why))
                }
                Err(_) => Err(Error::Unavailable(format!("{}: the list of tags took too long", self.host))),
            };
            match outcome {
                Ok(tags) if tags.is_empty() => {}
                Ok(tags) => return Some(Ok(tags)),
                Err(error) => {
                    self.body = None;
                    return Some(Err(error));
                }
            }
        }
    }

    fn read(&mut self, bytes: Bytes) -> Result<Vec<Tag>, String> {
        self.rest = bytes;
        let plain = self.unpacker.take(&mut self.rest)?;
        self.parser.read(&plain)
    }

    fn finish(&mut self) -> Result<Vec<Tag>, String> {
        let plain = self.unpacker.finish()?;
        let mut tags = self.parser.read(&plain)?;
        tags.extend(self.parser.finish()?);
        Ok(tags)
    }

    fn no_list(&self, why: &str) -> Error {
        Error::Protocol(format!("{}: the response is not a list of tags: {why}", self.host))
    }
}

/// Extracts the tags from `{"tags": ["1", …], …}`, given in chunks. All other content must be valid JSON and is
/// skipped.
struct TagParser {
    json: LowLevelJsonParser,
    /// The start of an incomplete token.
    pending: Vec<u8>,
    depth: usize,
    /// Whether the parser is inside the value of `tags` in the outermost object.
    in_tags: bool,
    seen_tags: bool,
}

impl TagParser {
    fn new() -> Self {
        let json = LowLevelJsonParser::new().with_max_stack_size(MAX_DEPTH);
        Self { json, pending: Vec::new(), depth: 0, in_tags: false, seen_tags: false }
    }

    fn read(&mut self, piece: &[u8]) -> Result<Vec<Tag>, String> {
        self.pending.extend_from_slice(piece);
        let tags = self.advance(false)?;
        if self.pending.len() > MAX_TOKEN { Err(format!("a string longer than {MAX_TOKEN} bytes")) } else { Ok(tags) }
    }

    fn finish(&mut self) -> Result<Vec<Tag>, String> {
        let tags = self.advance(true)?;
        if self.seen_tags { Ok(tags) } else { Err("it has no tags".into()) }
    }

    fn advance(&mut self, is_ending: bool) -> Result<Vec<Tag>, String> {
        let pending = mem::take(&mut self.pending);
        let (mut tags, mut rest) = (Vec::new(), &*pending);
        loop {
            let step = self.json.parse_next(rest, is_ending);
            rest = &rest[step.consumed_bytes..];
            match step.event {
                None | Some(Ok(JsonEvent::Eof)) => break,
                Some(Ok(event)) => tags.extend(self.take(&event)?),
                Some(Err(error)) => return Err(error.to_string()),
            }
        }
        self.pending = rest.to_vec();
        Ok(tags)
    }

    fn take(&mut self, event: &JsonEvent<'_>) -> Result<Option<Tag>, &'static str> {
        match (self.depth, event) {
            (0, JsonEvent::StartObject) => self.depth += 1,
            (0, _) => return Err("it is not a JSON object"),
            (1, JsonEvent::ObjectKey(key)) => self.in_tags = self.is_tags(key)?,
            (1, JsonEvent::StartArray) => self.depth += 1,
            (1, JsonEvent::EndObject) => self.depth -= 1,
            // Go writes an empty list as null.
            (1, JsonEvent::Null) => {}
            (1, _) if self.in_tags => return Err("its tags are not a list"),
            (2, JsonEvent::String(name)) if self.in_tags => return Ok(name.parse().ok()),
            (2, JsonEvent::EndArray) => {
                self.depth -= 1;
                self.in_tags = false;
            }
            (2, _) if self.in_tags => return Err("one of its tags is not a string"),
            (_, JsonEvent::StartArray | JsonEvent::StartObject) => self.depth += 1,
            (_, JsonEvent::EndArray | JsonEvent::EndObject) => self.depth -= 1,
            _ => {}
        }
        Ok(None)
    }

    /// All readers must find the same tags: one key, in one spelling.
    fn is_tags(&mut self, key: &str) -> Result<bool, &'static str> {
        if !key.eq_ignore_ascii_case("tags") {
            return Ok(false);
        }
        if key != "tags" || self.seen_tags {
            return Err("it has duplicate tags keys, or one in another spelling");
        }
        self.seen_tags = true;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tags found if the text arrives in chunks of this size.
    fn read(text: &[u8], size: usize) -> Result<Vec<String>, String> {
        let mut parser = TagParser::new();
        let mut tags = Vec::new();
        for piece in text.chunks(size) {
            tags.extend(parser.read(piece)?);
        }
        tags.extend(parser.finish()?);
        Ok(tags.iter().map(|tag| tag.as_str().to_owned()).collect())
    }

    #[test]
    fn tags_are_found_for_any_chunk_size() {
        for (text, wanted) in [
            (r#"{"name":"x","tags":["a","b\u002d1","c"]}"#, &["a", "b-1", "c"][..]),
            (r#"{"child":[],"manifest":{"sha256:1":{"tags":["no"],"tag":["no"]}},"name":"x","tags":["a"]}"#, &["a"]),
            (r#"{"tags":["a"],"x":[["tags","no"],{"tags":["no"]}],"y":null,"z":1.5e3,"t":true} "#, &["a"]),
            (r#"{"tags":null}"#, &[]),
            (r#"{"tags":[]}"#, &[]),
            // Strings that are not tags cannot be requested.
            ("{\"tags\":[\"\",\"-a\",\"ok\",\"a/b\",\"a b\",\"<x>\",\"é\",\"a\\r\\n\"]}", &["ok"]),
        ] {
            for size in [1, 2, 7, 1000] {
                assert_eq!(read(text.as_bytes(), size).unwrap(), wanted, "{text} by {size}");
            }
        }
    }

    #[test]
    fn other_documents_are_not_lists_of_tags() {
        let deep = format!("{{\"x\":{}", "[".repeat(10_000));
        let long = format!("{{\"x\":\"{}\",\"tags\":[]}}", "y".repeat(MAX_TOKEN + 1000));
        for bad in [
            "",
            "<script>alert(1)</script>",
            "[]",
            "\"tags\"",
            "null",
            "{}",
            r#"{"errors":[{"code":"X"}]}"#,
            r#"{"tags":{}}"#,
            r#"{"tags":"a"}"#,
            r#"{"tags":[1]}"#,
            r#"{"tags":[null]}"#,
            r#"{"tags":[["a"]]}"#,
            r#"{"tags":["a"],"tags":["b"]}"#,
            r#"{"Tags":["a"]}"#,
            r#"{"tags":["a"]"#,
            r#"{"tags":["a"#,
            r#"{"tags":["a"]} {}"#,
            "{\"tags\":[\"\u{1}\"",
            &deep,
            &long,
        ] {
            assert!(read(bad.as_bytes(), 100).is_err(), "{bad:.60}");
        }
        assert!(read(b"{\"tags\":[\"\xff\"]}", 100).is_err());
    }

    #[test]
    fn at_most_one_token_is_buffered() {
        let mut parser = TagParser::new();
        parser.read(b"{\"tags\":[").unwrap();
        for number in 0..100_000 {
            parser.read(format!("\"tag-{number}\",").as_bytes()).unwrap();
            assert!(parser.pending.len() < 100 && parser.pending.capacity() < 200);
        }
    }
}
