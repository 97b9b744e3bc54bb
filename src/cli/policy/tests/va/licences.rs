//! Licences.

use super::*;

fn package_with(licences: &str) -> &'static str {
    let text = format!(r#"{{"issues":[],"packages":[{{"name":"x","version":"1","licences":{licences}}}]}}"#);
    Box::leak(text.into_boxed_str())
}

#[test]
fn licences_as_package_managers_write_them() {
    check_all(&[
        (
            line!(),
            "{licences: {deny: ['AGPL-*']}}",
            package_with(r#""released under the Affero GPL""#),
            "",
            Deny("licences: x 1 is licensed released under the Affero GPL, which the policy denies (\"AGPL-*\")"),
        ),
        (line!(), "{licences: {deny: ['AGPL-*']}}", package_with(r#""see the file COPYING""#), "", Admit),
        (
            line!(),
            "{licences: {deny: ['AGPL-*'], unknown: deny}}",
            package_with(r#""see the file COPYING""#),
            "",
            Deny("is not an SPDX expression (unknown: deny)"),
        ),
        (
            line!(),
            "{licences: {allow: [MIT]}}",
            package_with(r#""LicenseRef-acme""#),
            "",
            Deny("\"LicenseRef-acme\", which refers to a text that this gate does not have (unknown: deny)"),
        ),
        (
            line!(),
            "{licences: {deny: [GPL-2.0-only]}}",
            package_with(r#"["Expat", "GPL-2"]"#),
            "",
            Deny("licences: x 1 is licensed GPL-2, which the policy denies"),
        ),
        (
            line!(),
            "{licences: {allow: [MIT, BSD-3-Clause]}}",
            package_with(r#"["MIT License", "BSD License"]"#),
            "",
            Deny("licences: x 1 is licensed BSD License, which the policy does not allow"),
        ),
    ]);
}

#[test]
fn licences() {
    let of = package_with;
    let unlisted = r#"{"issues":[]}"#;
    check_all(&[
        (line!(), "{licences: {deny: ['AGPL-*']}}", of(r#""MIT""#), "", Admit),
        (
            line!(),
            "{licences: {deny: ['AGPL-*']}}",
            of(r#"["AGPL-3.0-only"]"#),
            "",
            Deny("licences: x 1 is licensed AGPL-3.0-only, which the policy denies (\"AGPL-*\")"),
        ),
        (line!(), "{licences: {deny: ['AGPL-*']}}", of(r#""MIT OR AGPL-3.0-only""#), "", Admit),
        (line!(), "{licences: {deny: ['AGPL-*']}}", of("[]"), "", Admit),
        (
            line!(),
            "{licences: {deny: ['AGPL-*'], unknown: deny}}",
            of("[]"),
            "",
            Deny("licences: x 1 states no licence (unknown: deny)"),
        ),
        (line!(), "{licences: {allow: [MIT]}}", of("[]"), "", Deny("licences: x 1 states no licence")),
        (line!(), "{licences: {allow: [MIT], unknown: allow}}", of("[]"), "", Admit),
        (
            line!(),
            "{licences: {allow: [MIT]}}",
            of(r#""our own""#),
            "",
            Deny("\"our own\", which is not an SPDX expression"),
        ),
        (
            line!(),
            "{licences: {allow: [MIT]}}",
            of(r#""MIT AND BSD-3-Clause""#),
            "",
            Deny("which the policy does not allow"),
        ),
        (
            line!(),
            "{licences: {deny: ['AGPL-*']}}",
            unlisted,
            "",
            Deny("licences: the source of the report lists no packages"),
        ),
        (line!(), "{licences: {allow: [MIT]}}", r#"{"issues":[],"packages":[]}"#, "", Admit),
    ]);
}
