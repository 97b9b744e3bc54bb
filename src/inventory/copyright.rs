//! Licences of packages of dpkg: `usr/share/doc/PACKAGE/copyright` (Debian Policy, section 12.5).
//!
//! The names of licences are those in fields `License` of a machine-readable file (DEP-5), and those of the texts in
//! `/usr/share/common-licenses` that any other file refers to. A file that only contains a text states none.

use std::sync::LazyLock;

use regex::Regex;

use super::text::lines;

/// The maximum number of licences of a package, and the maximum length of a name in bytes.
const MAX_LICENSES: usize = 64;
const MAX_NAME: usize = 256;

/// The licences that a file states, each once, in their order.
pub(super) fn licenses(content: &[u8]) -> Vec<String> {
    static COMMON: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"/?usr/share/common-licenses/([0-9A-Za-z_.+-]+[0-9A-Za-z+])").expect("a valid pattern")
    });
    let (mut fields, mut references) = (Vec::new(), Vec::new());
    for line in lines(content) {
        match line.strip_prefix("License:") {
            Some(name) => add(&mut fields, name.trim()),
            None => COMMON.captures_iter(&line).for_each(|found| add(&mut references, &found[1])),
        }
    }
    // The reference does not say whether later versions may be used; the field does.
    if fields.is_empty() { references } else { fields }
}

fn add(licenses: &mut Vec<String>, name: &str) {
    let is_new = !name.is_empty() && name.len() <= MAX_NAME && !licenses.iter().any(|known| known == name);
    if is_new && licenses.len() < MAX_LICENSES {
        licenses.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_references_are_read() {
        let machine_readable = b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
            Files: *\nCopyright: x\nLicense: GPL-2+\n This program is free software\n \
            On Debian systems: /usr/share/common-licenses/GPL-2.\n\n\
            Files: lib/*\nLicense: Expat\n\nLicense: GPL-2+\n text\n";
        assert_eq!(licenses(machine_readable), ["GPL-2+", "Expat"]);
        assert_eq!(licenses(b"see `/usr/share/common-licenses/LGPL-2.1'.\n"), ["LGPL-2.1"]);
        assert_eq!(licenses(b"License:\n text\n\xff\n"), [""; 0]);
        let many: String = (0..100).map(|number| format!("License: L{number}\n")).collect();
        assert_eq!(licenses(many.as_bytes()).len(), MAX_LICENSES);
    }
}
