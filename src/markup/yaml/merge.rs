//! Merge keys of YAML 1.1: `<<: *defaults`.

use std::collections::HashSet;

use super::super::tree::{Member, Node, Value};

/// Replaces the merge key at this index by the members that it names. A key that the mapping has itself counts, and of
/// several merged mappings the first one with the key.
///
/// A merge key that cannot be replaced stays, with the reason. One of the reasons: go-yaml v2, which the Kubernetes API
/// uses, lets a merge key override a key before it. go-yaml v3 and the specification don't, so the author may mean
/// either.
pub(super) fn expand(mut members: Vec<Member>, index: usize) -> Vec<Member> {
    if let Some(why) = refusal(&members, index) {
        members[index].merge = Some(why);
        return members;
    }
    let sources = sources(members.remove(index).node);
    let mut seen: HashSet<_> = members.iter().map(|member| member.key.clone()).collect();
    let merged: Vec<_> = sources.into_iter().filter(|member| seen.insert(member.key.clone())).collect();
    members.splice(index..index, merged);
    members
}

fn sources(node: Node) -> Vec<Member> {
    match node.value {
        Value::Map(members) => members,
        Value::List(items) => items.into_iter().flat_map(sources).collect(),
        _ => Vec::new(),
    }
}

fn refusal(members: &[Member], index: usize) -> Option<String> {
    let node = &members[index].node;
    let sources = match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    };
    if !sources.iter().all(|source| matches!(source.value, Value::Map(_))) {
        return Some("its value must be a mapping or a list of mappings".to_owned());
    }
    let before: HashSet<_> = members[..index].iter().map(|member| &*member.key).collect();
    let twice = sources.iter().flat_map(Node::members).find(|member| before.contains(&*member.key))?;
    Some(format!("{:?} occurs before it and in the merged mapping: parsers disagree about which one counts", twice.key))
}
