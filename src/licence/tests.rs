use super::*;

#[test]
fn names_are_sorted_and_short() {
    for table in [NAMES, FAMILIES, EXCEPTIONS] {
        assert!(table.is_sorted_by_key(|(name, _)| *name));
        for (name, _) in table {
            assert_eq!(short(name).as_deref(), Some(*name));
        }
    }
    for (name, known) in NAMES {
        assert!(spdx::license_id(known).is_some(), "{name}");
    }
    for (name, known) in EXCEPTIONS {
        assert!(spdx::exception_id(known).is_some(), "{name}");
    }
    for (old, new) in DEPRECATED {
        assert!(spdx::license_id(old).is_some_and(spdx::LicenseId::is_deprecated), "{old}");
        assert!(spdx::Expression::parse_mode(new[0], spdx::ParseMode::STRICT).is_ok(), "{old}");
    }
    for (name, _) in FAMILIES {
        assert!(!candidates(name).is_empty(), "{name}");
    }
}

#[test]
fn clear_names_become_identifiers() {
    for (written, expected) in [
        // SPDX
        ("MIT", "MIT"),
        ("(MIT OR Apache-2.0)", "(MIT OR Apache-2.0)"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("AGPL-3.0", "AGPL-3.0-only"),
        ("BSD-3-Clause AND Zlib", "BSD-3-Clause AND Zlib"),
        ("Python-2.0.1", "Python-2.0.1"),
        ("EPL-2.0 OR Unknown-1.0", "EPL-2.0 OR Unknown-1.0"),
        // Debian
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1+ and Expat", "LGPL-2.1-or-later AND MIT"),
        ("GPL-3", "GPL-3.0-only"),
        ("BSD-3-clause", "BSD-3-Clause"),
        // Fedora
        ("ASL 2.0", "Apache-2.0"),
        ("GPLv2+ and LGPLv2+ and MIT", "GPL-2.0-or-later AND LGPL-2.0-or-later AND MIT"),
        ("(GPLv3+ or LGPLv3) and MIT", "(GPL-3.0-or-later OR LGPL-3.0-only) AND MIT"),
        // PyPI, Maven, npm
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("The Apache Software License, Version 2.0", "Apache-2.0"),
        ("Apache 2.0", "Apache-2.0"),
        ("The MIT License", "MIT"),
        ("GNU General Public License v2 or later (GPLv2+)", "GPL-2.0-or-later"),
        ("GNU Affero General Public License v3", "AGPL-3.0-only"),
        ("Affero General Public License v3", "AGPL-3.0-only"),
        ("Affero GPL v3", "AGPL-3.0-only"),
        ("GNU Affero GPLv3+", "AGPL-3.0-or-later"),
        ("Affero-GPL-3", "AGPL-3.0-only"),
        ("General Public License version 3", "GPL-3.0-only"),
        ("Lesser General Public License v2.1 or later", "LGPL-2.1-or-later"),
        ("GNU Lesser GPL v3", "LGPL-3.0-only"),
        ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
        ("Microsoft Public License", "MS-PL"),
        ("Elastic License 2.0 (ELv2)", "Elastic-2.0"),
        ("Elastic License 2.0 (ELv1)", "Elastic License 2.0 (ELv1)"),
        ("Elastic License 2.0 (changed)", "Elastic License 2.0 (changed)"),
        ("Reciprocal Public License 1.5 (RPL)", "RPL-1.5"),
        ("Common Public Attribution License Version 1.0 (CPAL-1.0)", "CPAL-1.0"),
        ("Creative Commons Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)", "CC-BY-NC-4.0"),
        ("ISC License (ISCL)", "ISC"),
        ("The Unlicense", "Unlicense"),
        ("Eclipse Public License - v 2.0", "EPL-2.0"),
        ("New BSD License", "BSD-3-Clause"),
        ("3-Clause BSD License", "BSD-3-Clause"),
        // Not clear
        ("BSD", "BSD"),
        ("BSD License", "BSD License"),
        ("GPL", "GPL"),
        ("Public Domain and MIT", "Public Domain and MIT"),
        ("SEE LICENSE IN LICENSE.md", "SEE LICENSE IN LICENSE.md"),
        ("", ""),
    ] {
        assert_eq!(normalised(written), expected, "{written}");
    }
}

/// Texts from the tests of Trivy's normaliser (`pkg/licensing/normalize_test.go`), classifiers of PyPI, and DEP-5.
#[test]
fn joined_names_become_expressions() {
    let unknown = |text: &str| Some(text.replace('?', UNKNOWN));
    for (written, expected) in [
        ("GPL-1+,GPL-2", Some("GPL-1.0-or-later AND GPL-2.0-only".to_owned())),
        ("GPL-1+ or Artistic or Artistic-dist", unknown("GPL-1.0-or-later OR ?Artistic OR Artistic-dist")),
        ("LGPLv3+_or_GPLv2+", unknown("LGPL-3.0-or-later OR GPL-2.0-or-later")),
        ("BSD-3-CLAUSE and GPL-2", unknown("BSD-3-Clause AND GPL-2.0-only")),
        ("MIT or Expat, and BSD-3-clause", unknown("(MIT OR MIT) AND BSD-3-Clause")),
        ("MIT and ISC, or Zlib", unknown("MIT AND ISC OR Zlib")),
        ("MPL 2.0 GPL2+", unknown("(MPL-2.0 AND GPL-2.0-or-later)")),
        ("MIT BSD GPL2+", unknown("(MIT AND ?BSD AND GPL-2.0-or-later)")),
        ("MIT/X11", unknown("MIT")),
        ("MIT/Apache-2.0", unknown("(MIT OR Apache-2.0)")),
        ("Apache 2", unknown("Apache-2.0")),
        ("apache license,version 2.0", unknown("Apache-2.0")),
        ("GNU General Public License (GPL)", unknown("?GPL")),
        ("GNU Library or Lesser General Public License (LGPL)", unknown("?LGPL")),
        ("Common Development and Distribution License 1.0 (CDDL-1.0)", unknown("CDDL-1.0")),
        ("Historical Permission Notice and Disclaimer (HPND)", unknown("HPND")),
        ("GNU Affero General Public License v3 or later (AGPLv3+)", unknown("AGPL-3.0-or-later")),
        ("CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", unknown("CC0-1.0")),
        ("MIT License (GPL-2)", unknown("MIT AND (GPL-2.0-only)")),
        ("Elastic License 2.0 (changed)", unknown("Elastic-2.0 AND (?changed)")),
        ("Artistic License 1.0 OR Microsoft Public License", unknown("Artistic-1.0 OR MS-PL")),
        ("GPL-2+ with OpenSSL exception", unknown("GPL-2.0-or-later AND ?with-OpenSSL-exception")),
        ("GPL-3+ with GCC exception", unknown("GPL-3.0-or-later WITH GCC-exception-3.1")),
        ("GPL-2+-with-bison-exception", unknown("GPL-2.0-or-later WITH Bison-exception-2.2")),
        ("GPL-2.0-with-classpath-exception", unknown("GPL-2.0-only WITH Classpath-exception-2.0")),
        ("(MIT OR ISC", unknown("MIT AND ISC")),
        ("MIT OR", None),
        ("GPL-2, 3-clause BSD", unknown("GPL-2.0-only AND BSD-3-Clause")),
        ("МIT and MIT", unknown("?-IT AND MIT")),
        ("МIT", None),
        ("Licensed under GPL-3 for now", unknown("(?Licensed-under-GPL-3-for-now AND GPL-3.0-only)")),
        ("Permission is hereby granted, free of charge, to any person", None),
    ] {
        assert_eq!(expression(written), expected, "{written}");
    }
    let deep = format!("{}MIT OR GPL-3{}", "(".repeat(100), ")".repeat(100));
    assert_eq!(expression(&deep).as_deref(), Some("MIT AND GPL-3.0-only"));
    let long = format!("{}MIT OR GPL-3", "MIT OR x OR ".repeat(100));
    let expected = format!("MIT AND {UNKNOWN}x AND GPL-3.0-only");
    assert_eq!(expression(&long), Some(expected));
    assert_eq!(expression(&"MIT OR ".repeat(MAX_TEXT)), None);
}

#[test]
fn names_without_a_version_may_mean_several_licences() {
    assert_eq!(candidates("BSD License"), ["BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSD-4-Clause"]);
    for name in ["Affero GPL", "GNU Affero General Public License", "the Affero License", "GNU AGPL"] {
        assert!(candidates(name).contains(&"AGPL-3.0-or-later"), "{name}");
    }
    assert!(candidates("Lesser General Public License").iter().all(|id| id.starts_with("LGPL-")));
    assert!(candidates("LicenseRef-unknown-GPL").contains(&"GPL-3.0-or-later"));
    assert_eq!(candidates("Apache Software License"), ["Apache-1.0", "Apache-1.1", "Apache-2.0"]);
    assert_eq!(candidates("MIT").len() + candidates("anything").len(), 0);
}

proptest::proptest! {
    /// Every expression can be read.
    #[test]
    fn expressions_are_those_of_spdx(
        words in proptest::collection::vec("MIT|GPL-2|BSD|x|and|or|with|,|/|\\(|\\)|, and|Classpath exception|GPL-2.0\\+|[a-zé ]{0,3}", 0..12),
    ) {
        let text = words.join(" ");
        if let Some(expression) = expression(&text) {
            let mode = spdx::ParseMode { allow_deprecated: true, ..spdx::ParseMode::STRICT };
            proptest::prop_assert!(spdx::Expression::parse_mode(&expression, mode).is_ok(), "{text}: {expression}");
        }
    }
}
