//! Licences as they are stated, and the rules that judge them.

use super::*;

fn rule(allow: &[&str], deny: &[&str]) -> LicenceRule {
    let patterns = |texts: &[&str]| texts.iter().map(|text| LicencePattern::new(text)).collect();
    let unknown = if allow.is_empty() { Behaviour::Allow } else { Behaviour::Deny };
    LicenceRule { allow: patterns(allow), deny: patterns(deny), unknown }
}

#[test]
fn expressions_are_evaluated_as_spdx_defines_them() {
    use LicenceProblem::{Denied, Missing, NotAllowed, Unreadable};
    for (allow, deny, licences, expected) in [
        (&[][..], &["AGPL-*"][..], &["MIT"][..], None),
        (&[], &["AGPL-*"], &["AGPL-3.0-only"], Some(Denied)),
        (&[], &["agpl-*"], &["agpl-3.0-or-later"], Some(Denied)),
        (&[], &["AGPL-3.0"], &["AGPL-3.0-or-later"], Some(Denied)),
        (&[], &["AGPL-3.0-only"], &["AGPL-3.0"], Some(Denied)),
        (&[], &["AGPL-3.0-only"], &["AGPL-3.0-or-later"], None),
        (&[], &["AGPL-*"], &["MIT OR AGPL-3.0-only"], None),
        (&[], &["AGPL-*"], &["MIT AND AGPL-3.0-only"], Some(Denied)),
        (&[], &["AGPL-*"], &["MIT OR Apache-2.0 AND AGPL-3.0-only"], None),
        (&[], &["AGPL-*"], &["(MIT OR Apache-2.0) AND AGPL-3.0-only"], Some(Denied)),
        (&[], &["AGPL-*"], &["MIT", "AGPL-3.0-only"], Some(Denied)),
        (&[], &["GPL-*"], &["GPL-2.0-only WITH Classpath-exception-2.0"], Some(Denied)),
        (&[], &["GPL-*"], &["GPLv2+"], Some(Denied)),
        (&[], &["AGPL-*"], &[], None),
        (&[], &["AGPL-*"], &["see the file COPYING"], None),
        (&[], &["*affero*"], &["GNU Affero General Public License v3"], Some(Denied)),
        (&["MIT", "Apache-2.0"], &[], &["MIT/Apache-2.0"], None),
        (&["MIT"], &[], &["Apache-2.0"], Some(NotAllowed)),
        (&["BSD-*"], &[], &["BSD License"], None),
        (&["Elastic-2.0"], &[], &["Elastic License"], Some(NotAllowed)),
        (&["EPL-2.0"], &[], &["Eclipse Public License v. 2.0"], None),
        (&["CC0-1.0"], &[], &["CC0 1.0 Universal"], None),
        (&["MIT"], &[], &["MIT OR GPL-3.0-only"], None),
        (&["MIT"], &[], &["MIT AND GPL-3.0-only"], Some(NotAllowed)),
        (&["Apache-2.0"], &[], &["Apache-2.0 WITH LLVM-exception"], None),
        (&["GPL-2.0-only WITH Classpath-exception-2.0"], &[], &["GPL-2.0-only"], Some(NotAllowed)),
        (&["*"], &["GPL-*"], &["MIT AND GPL-2.0-only"], Some(Denied)),
        (&["GPL-*", "MIT"], &["GPL-3.0*"], &["MIT OR GPL-3.0-only"], None),
        (&["LicenseRef-acme"], &[], &["LicenseRef-acme"], None),
        (&["MIT"], &[], &[], Some(Missing)),
        (&["MIT"], &[], &[" "], Some(Missing)),
        (&["MIT"], &[], &["NOASSERTION"], Some(Unreadable)),
        (&["*"], &[], &["MIT AND NOASSERTION"], Some(Unreadable)),
        (&["MIT"], &[], &["MIT OR NOASSERTION"], None),
        (&["MIT"], &[], &["NONE"], Some(Unreadable)),
        (&["MIT"], &[], &["MIT with restrictions"], Some(Unreadable)),
        (&["MIT"], &[], &["MIT AND"], Some(Unreadable)),
    ] {
        let licences: Vec<_> = licences.iter().map(|text| DeclaredLicence::new((*text).to_owned())).collect();
        let found = rule(allow, deny).judge(&licences).err().map(|(problem, _)| problem);
        assert_eq!(found, expected, "{allow:?} {deny:?} {licences:?}");
    }
    let long = [DeclaredLicence::new(format!("MIT{}", " OR MIT".repeat(MAX_EXPRESSION)))];
    assert_eq!(rule(&["MIT"], &[]).judge(&long).unwrap_err().0, Unreadable);
}

#[test]
fn licences_are_judged_as_package_managers_write_them() {
    use LicenceProblem::{Denied, NotAllowed, Unreadable};
    for (allow, deny, written, expected) in [
        (&[][..], &["GPL-2.0-only"][..], "GPL-2", Some(Denied)),
        (&[], &["GPL-2.0-only"], "GPLv2", Some(Denied)),
        (&[], &["GPL-2.0-only"], "GNU GPL v2", Some(Denied)),
        (&[], &["GPL-2.0*"], "GPL-2+ with OpenSSL exception", Some(Denied)),
        (&[], &["GPL-3.0*"], "MIT or GPL-3", None),
        (&[], &["GPL-3.0*"], "MIT, GPL-3", Some(Denied)),
        (&[], &["GPL-3.0*"], "MIT or Expat, and GPL-3", Some(Denied)),
        (&[], &["GPL-3.0*"], "Public Domain and GPL-3", Some(Denied)),
        (&[], &["GPL-3.0*"], "GPL-3 or something else", Some(Denied)),
        (&[], &["GPL-3.0*"], "(GPL-3 or MIT) and something else", None),
        (&[], &["GPL-3.0*"], "MIT (GPL-3)", Some(Denied)),
        (&[], &["GPL-3.0*"], "MIT BSD GPL3+", Some(Denied)),
        (&[], &["GPL-3.0*"], "GPL-3 (see COPYING", Some(Denied)),
        // A name without a version may mean any.
        (&[], &["GPL-3.0-only"], "GPL", Some(Denied)),
        (&[], &["BSD-4-Clause"], "BSD License", Some(Denied)),
        (&[], &["BSD-4-Clause"], "MIT AND BSD", Some(Denied)),
        (&[], &["GPL-3.0-only"], "BSD", None),
        (&["GPL-*"], &[], "GPL", None),
        (&["BSD-*"], &[], "BSD-style", None),
        (&["BSD-3-Clause"], &[], "BSD", Some(NotAllowed)),
        (&["MIT"], &[], "MIT/X11", None),
        (&["Apache-2.0"], &[], "Apache 2", None),
        (&["MIT"], &[], "MIT and something else", Some(Unreadable)),
        (&["MIT", "*"], &[], "something else", Some(Unreadable)),
        (&["*"], &[], "MIT AND something else", Some(Unreadable)),
        (&["*"], &[], "LicenseRef-unknown-x", Some(Unreadable)),
        // A reference names a text that nobody here has read.
        (&["*"], &[], "LicenseRef-acme", Some(Unreadable)),
        (&["*", "LicenseRef-acme*"], &[], "LicenseRef-acme-1", None),
        (&["MIT"], &[], "MIT OR LicenseRef-acme", None),
        (&["MIT"], &[], "MIT AND LicenseRef-acme", Some(Unreadable)),
        (&[], &["AGPL-*"], "AGPL-3.0-only OR LicenseRef-free", Some(Denied)),
        (&[], &["AGPL-*"], "MIT OR LicenseRef-AGPLv3", None),
        (&[], &["AGPL-*"], "LicenseRef-AGPLv3", Some(Denied)),
        (&[], &["AGPL-*"], "LicenseRef-scancode-agpl-3.0", Some(Denied)),
        (&[], &["AGPL-*"], "LicenseRef-GNU-Affero-GPL", Some(Denied)),
        (&[], &["AGPL-*"], "LicenseRef-acme", None),
        (&[], &["LicenseRef-acme"], "LicenseRef-acme", Some(Denied)),
        (&["MIT", "LicenseRef-acme"], &[], "LicenseRef-acme AND MIT", None),
        (&["LicenseRef-*"], &["Elastic-2.0"], "LicenseRef-acme AND Elastic-2.0", Some(Denied)),
        // Unless the rule allows it by its name.
        (&["LicenseRef-agpl-ours"], &["AGPL-*"], "LicenseRef-agpl-ours", None),
        (&["licenseref-AGPL*"], &["AGPL-*"], "LicenseRef-agpl-ours", None),
        (&["LicenseRef-agpl-other"], &["AGPL-*"], "LicenseRef-agpl-ours", Some(Denied)),
        (&["LicenseRef-agpl-ours"], &["LicenseRef-agpl*"], "LicenseRef-agpl-ours", Some(Denied)),
        // As it is written.
        (&[], &["Expat"], "Expat", Some(Denied)),
        (&[], &["*affero*"], "MIT and GNU Affero thing", Some(Denied)),
        (&[], &["*gpl*"], "MIT or GPL-3", None),
    ] {
        let found = rule(allow, deny).judge(&[DeclaredLicence::new(written.to_owned())]).err().map(|error| error.0);
        assert_eq!(found, expected, "{allow:?} {deny:?} {written:?}");
    }
}

/// Whoever writes a package chooses the name of a reference.
#[test]
fn a_licence_reference_is_unknown_unless_the_policy_names_it() {
    use Behaviour::{Allow, Deny};
    use LicenceProblem::{Denied, NotAllowed, Unreadable};
    for (allow, deny, unknown, written, expected) in [
        (&[][..], &["AGPL-*"][..], Deny, "AGPL-3.0-only OR LicenseRef-free", Some(Denied)),
        (&[], &["AGPL-*"], Allow, "AGPL-3.0-only OR DocumentRef-x:LicenseRef-y", Some(Denied)),
        (&[], &["AGPL-*", "LicenseRef-other"], Allow, "AGPL-3.0-only OR LicenseRef-free", Some(Denied)),
        (&["AGPL-3.0-only", "LicenseRef-paid"], &["AGPL-*"], Deny, "AGPL-3.0-only OR LicenseRef-paid", None),
        (&[], &["AGPL-*"], Deny, "MIT OR LicenseRef-free", None),
        (&[], &["AGPL-*"], Deny, "MIT AND LicenseRef-free", Some(Unreadable)),
        (&[], &["AGPL-*"], Deny, "LicenseRef-x", Some(Unreadable)),
        (&[], &["AGPL-*"], Allow, "LicenseRef-x", None),
        // What its name speaks of.
        (&[], &["AGPL-*"], Allow, "DocumentRef-x:LicenseRef-AGPL", Some(Denied)),
        (&[], &["AGPL-*"], Allow, "LicenseRef-Fedora-Public-Domain", None),
        (&[], &["Elastic-2.0"], Allow, "LicenseRef-Elastic-2.0", Some(Denied)),
        (&[], &["Elastic-2.0"], Allow, "LicenseRef-scancode-elastic-2.0", Some(Denied)),
        (&[], &["Elastic-2.0"], Allow, "LicenseRef-scancode-elastic-2.0-modified", Some(Denied)),
        (&[], &["Elastic-2.0"], Allow, "LicenseRef-elastic", None),
        (&[], &["CC-BY-NC-4.0"], Allow, "LicenseRef-CC-BY-NC-4.0", Some(Denied)),
        (&["LicenseRef-Elastic-*"], &["Elastic-2.0"], Allow, "LicenseRef-Elastic-2.0", None),
        // Which entries are about it.
        (&["MIT", "LicenseRef-acme-*"], &[], Deny, "LicenseRef-acme-2", None),
        (&["MIT", "licenseref-acme"], &[], Deny, "LicenseRef-acme", None),
        (&["*"], &[], Deny, "LicenseRef-x", Some(Unreadable)),
        (&["*"], &[], Allow, "LicenseRef-x", None),
        (&["AGPL-*"], &[], Deny, "LicenseRef-AGPL-3.0", Some(Unreadable)),
        (&["MIT"], &[], Allow, "LicenseRef-x", Some(NotAllowed)),
    ] {
        let judged = LicenceRule { unknown, ..rule(allow, deny) };
        let found = judged.judge(&[DeclaredLicence::new(written.to_owned())]).err().map(|error| error.0);
        assert_eq!(found, expected, "{allow:?} {deny:?} {unknown:?} {written:?}");
    }
}

#[test]
fn deprecated_identifiers_count_as_spdxs_replacements() {
    for (pattern, written) in [
        ("GPL-2.0-or-later", "eCos-2.0"),
        ("GPL-2.0", "eCos-2.0"),
        ("eCos-2.0", "eCos-2.0"),
        ("LGPL-2.0-or-later", "wxWindows"),
        ("BSD-2-Clause", "BSD-2-Clause-FreeBSD"),
        ("BSD-2-Clause", "BSD-2-Clause-NetBSD"),
        ("SMLNJ", "StandardML-NJ"),
        ("GPL-2.0-only", "GPL-2.0-with-classpath-exception"),
        // With spaces.
        ("CC-BY-NC*", "CC BY-NC 4.0"),
        ("CC-BY-NC-SA-4.0", "CC BY-NC-SA 4.0"),
    ] {
        let declared = [DeclaredLicence::new(written.to_owned())];
        assert!(rule(&[], &[pattern]).judge(&declared).is_err(), "{pattern:?} {written:?}");
        assert!(rule(&[pattern], &[]).judge(&declared).is_ok(), "{pattern:?} {written:?}");
    }
}

#[test]
fn free_text_and_addresses_name_licences() {
    for (pattern, written, is_denied) in [
        // However free text speaks of it.
        ("AGPL-*", "Affero GPL", true),
        ("AGPL-*", "GNU Affero GPL v3", true),
        ("AGPL-*", "Affero General Public License", true),
        ("AGPL-*", "GNU AFFERO GENERAL PUBLIC LICENSE\nVersion 3, 19 November 2007\n\nCopyright (C) 2007", true),
        ("AGPL-*", "released under the AGPL, see COPYING", true),
        ("AGPL-*", "Dual license: AGPLv3 / commercial", true),
        ("AGPL-*", "MIT and parts under the Affero GPL", true),
        ("AGPL-*", "AGPL, with exceptions for plugins", true),
        ("AGPL-*", "License :: OSI Approved :: GNU Affero General Public License v3 or later (AGPLv3+)", true),
        ("AGPL-*", "MIT or parts under the Affero GPL", false),
        ("AGPL-*", "GNU General Public License v3 or later (GPLv3+)", false),
        ("AGPL-*", "GPL-compatible", false),
        ("GPL-*", "see the GNU GENERAL PUBLIC LICENSE", true),
        ("GPL-*", "see the Lesser General Public License", false),
        ("GPL-*", "Affero GPL", false),
        ("GPL-3.0*", "code under GPL v2 only, honestly", false),
        ("LGPL-*", "GNU Library or Lesser General Public License (LGPL)", true),
        ("SSPL-*", "Server Side Public License (SSPL)", true),
        ("Elastic-2.0", "Licensed under the Elastic License 2.0, see LICENSE", true),
        ("Elastic-2.0", "Elastic License", true),
        ("MS-PL", "code under the Microsoft  Public License for now", true),
        ("MS-PL", "code under the Microsoft Reciprocal License for now", false),
        // The address of a licence.
        ("AGPL-*", "https://www.gnu.org/licenses/agpl-3.0.txt", true),
        ("AGPL-*", "http://www.gnu.org/licenses/agpl-3.0.en.html", true),
        ("AGPL-*", "https://www.gnu.org/licenses/lgpl-3.0.txt", false),
    ] {
        let declared = [DeclaredLicence::new(written.to_owned())];
        let found = rule(&[], &[pattern]).judge(&declared).is_err();
        assert_eq!(found, is_denied, "{pattern:?} {written:?}");
    }
}

/// A pattern is read as what is installed.
#[test]
fn patterns_may_be_written_as_package_managers_write_licences() {
    let long = &format!("{}AGPL-3.0-only", "MIT AND ".repeat(MAX_EXPRESSION));
    for (pattern, written, is_denied) in [
        ("GPL-3.0+", "GPL-3.0+", true),
        ("GPL-3.0+", "GPL-3.0-or-later", true),
        ("GPL-3.0+", "GPL-3.0-only", false),
        ("GPLv3+", "GPL-3.0-or-later", true),
        ("GPLv3", "GPL-3.0-only", true),
        ("GPLv3", "GPL-3+", true),
        ("AGPLv3", "AGPL-3.0-only", true),
        ("agpl-3.0-only", "AGPL-3.0", true),
        ("AGPL-3.0-only", "agpl-3.0-only", true),
        ("AGPL-3.0-only", "AGPL-3.0-or-later", false),
        ("AGPL", "AGPL-1.0-only", true),
        ("AGPL", "GPL-3.0-only", false),
        ("LGPL-2.1+", "LGPL-2.1-or-later", true),
        ("Apache 2.0", "Apache-2.0", true),
        ("Apache-2", "Apache License, Version 2.0", true),
        (" MIT ", "Expat", true),
        ("NOASSERTION", "NOASSERTION", true),
        ("Proprietary", "PROPRIETARY", true),
        // The parts of an expression, in any case, and next to unknown ones.
        ("AGPL-*", "MIT AND agpl-3.0-only", true),
        ("AGPL-*", "mit and AGPL-3.0", true),
        ("AGPL-*", "MIT AND custom AND AGPL-3.0-only", true),
        ("AGPL-*", "MIT AND AGPL-3.0-only WITH Foo-exception", true),
        ("AGPL-*", "MIT; AGPL-3.0-only", true),
        ("AGPL-*", "(AGPL-3.0-only", true),
        ("AGPL-*", "GNU Affero General Public License v3", true),
        ("AGPL-*", "AGPL-3.0-only OR NOASSERTION", true),
        ("GPL-*", "GPL-2.0-or-later AND 0BSD AND Public-Domain AND LGPL-2.1-or-later", true),
        ("LGPL-*", "GPL-3.0-only", false),
        // A word of free text, and of an expression that is too long to be read.
        ("AGPL-*", "MIT+AGPL-3.0-only", true),
        ("AGPL-*", "see AGPL-3.0-only.", true),
        ("AGPL-*", "see COPYING (AGPL-3.0-only)", true),
        ("AGPL-*", "License :: OSI Approved :: GNU Affero General Public License v3", true),
        ("AGPL-*", long, true),
    ] {
        let declared = [DeclaredLicence::new(written.to_owned())];
        let found = rule(&[], &[pattern]).judge(&declared).is_err();
        assert_eq!(found, is_denied, "{pattern:?} {written:?}");
    }
    let allowing = LicenceRule { unknown: Behaviour::Allow, ..rule(&["MIT", "Apache-2"], &[]) };
    for (written, is_allowed) in
        [("apache-2.0", true), ("GPL-3.0-only AND custom", false), ("MIT AND custom", true), ("custom", true)]
    {
        let declared = [DeclaredLicence::new(written.to_owned())];
        assert_eq!(allowing.judge(&declared).is_ok(), is_allowed, "{written:?}");
    }
}

#[test]
fn patterns_that_match_no_licence_are_recognised() {
    for (text, is_known) in [
        ("gpl-3.0-only", true),
        ("GPLv3+", true),
        ("AGPL", true),
        ("*affero*", true),
        ("LicenseRef-*", true),
        ("AGPLv3*", false),
        ("MIT", true),
        ("AGPL-*", true),
        ("GPL-2.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("LicenseRef-acme", true),
        ("licenseref-acme", true),
        ("licenseref-*", true),
        ("MTI", false),
        ("MIT OR Apache-2.0", false),
        ("", false),
    ] {
        assert_eq!(LicencePattern::new(text).is_known(), is_known, "{text}");
    }
}
