//! Settings of package managers that put their database in another place than the usual one.

use super::paths::CleanPath;
use super::system_file::DATABASES;
use super::text::lines;

/// Why packages may be missing, if a file of dpkg's settings (dpkg.cfg(5)) has `admindir` or `root`.
pub(super) fn of_dpkg(content: &[u8]) -> Option<String> {
    lines(content).find_map(|line| {
        let option = line.trim().trim_start_matches('-');
        // dpkg takes any other character for the end of the name (`lib/dpkg/options.c`).
        let (name, value) = option.split_once(|c: char| c != '-' && !c.is_ascii_alphanumeric())?;
        let usual = match name {
            "admindir" => "var/lib/dpkg",
            "root" => "",
            _ => return None,
        };
        let value = value.trim_matches(|c: char| matches!(c, '=' | '"' | '\'') || c.is_whitespace());
        let is_usual = value.starts_with('/') && CleanPath::new(value.as_bytes()).text == usual;
        (!is_usual).then(|| format!("it puts the database of dpkg in another place, which is not read ({name})"))
    })
}

/// The values of macros that lead to the usual places.
const MACROS: [(&str, &str); 5] = [
    ("_var", "/var"),
    ("_localstatedir", "/var"),
    ("_sharedstatedir", "/var/lib"),
    ("_usr", "/usr"),
    ("_prefix", "/usr"),
];

/// Why packages may be missing, if a file with macros of rpm sets `_dbpath`, or `_usr` or `_var`, by which
/// distributions define it.
pub(super) fn of_rpm(content: &[u8]) -> Option<String> {
    lines(content).find_map(|line| {
        let definition = line.trim_start().strip_prefix('%')?.trim_start();
        let end = definition.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        let (name, value) = definition.split_at(end);
        let value = with_values(value.trim());
        let directory = CleanPath::new(value.as_bytes()).text;
        let is_usual = match name {
            "_dbpath" => DATABASES.iter().any(|(path, _)| path.strip_suffix("/rpmdb.sqlite") == Some(&*directory)),
            "_usr" => directory == "usr",
            "_var" => directory == "var",
            _ => return None,
        };
        (!is_usual || !value.starts_with('/'))
            .then(|| format!("it puts the database of RPM in another place, which is not read ({name})"))
    })
}

/// The text with the values of macros that lead to the usual places.
fn with_values(text: &str) -> String {
    MACROS.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("%{{{name}}}"), value).replace(&format!("%{name}/"), &format!("{value}/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_in_other_places_are_noticed() {
        for (text, is_elsewhere) in [
            ("# admindir=/opt/db\nno-debsig\nlog /var/log/dpkg.log\npath-exclude=/usr/share/doc/*\n", false),
            ("", false),
            ("admindir=/opt/db\n", true),
            ("admindir /opt/db\r\n", true),
            ("  --admindir = \"/opt/db\"\n", true),
            ("admindir:/opt/db\n", true),
            ("admindir//opt/db\n", true),
            ("root,/srv\n", true),
            ("admindir:/var/lib/dpkg\n", false),
            ("admindir=/var/lib/dpkg/\n", false),
            ("admindir \"/var/lib/./dpkg\"\n", false),
            ("admindir=\n", true),
            ("admindir=var/lib/dpkg\n", true),
            ("no-debsig\nroot=/srv\n", true),
            ("root=/\n", false),
            ("admindirectory=/opt/db\n", false),
        ] {
            assert_eq!(of_dpkg(text.as_bytes()).is_some(), is_elsewhere, "{text}");
        }
        for (text, is_elsewhere) in [
            ("%dist .el9\n# %_dbpath /opt/db\n", false),
            ("%_dbpath /opt/db\n", true),
            ("\t%_dbpath\t%{getenv:HOME}/rpm\n", true),
            ("%_dbpath() /opt/db\n", true),
            ("% _dbpath /opt/db\n", true),
            ("%_dbpath{/opt/db}\n", true),
            ("%_var /opt/var\n", true),
            ("%_usr\t/opt/usr\n", true),
            ("%_var /var\n%_usr %{_prefix}\n%_variant /opt\n%_prefix /app\n", false),
            ("%_dbpath %{_var}/lib/rpm\n", false),
            ("%_dbpath %_localstatedir/lib/rpm\n", false),
            ("%_dbpath\t\t%{_usr}/lib/sysimage/rpm\n", false),
            ("%_dbpath /usr/share/rpm\n", false),
            ("%_dbpath %{_sharedstatedir}/rpm\n", false),
            ("%_dbpath %{_prefix}/lib/sysimage/rpm\n", false),
            ("%_dbpath %{_usr}/lib/rpm\n", true),
            ("%_dbpath usr/share/rpm\n", true),
            ("%_dbpath_rebuild /opt/db\n", false),
        ] {
            assert_eq!(of_rpm(text.as_bytes()).is_some(), is_elsewhere, "{text}");
        }
    }
}
