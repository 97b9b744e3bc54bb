//! Helm charts. A chart is an archive too; its content distinguishes it from an image layer.

use std::io::{self, Read};
use std::path::{Component, Path};

use flate2::bufread::GzDecoder;
use tar::{Archive, EntryType};

/// The maximum unpacked size of a chart, in bytes.
const MAX_UNPACKED: u64 = 256 * 1024 * 1024;
/// What Helm writes into the extra field of the gzip header (helm, pkg/chart/v2/util/save.go). No other value is
/// accepted.
const HELM: &[u8] = b"+aHR0cHM6Ly95b3V0dS5iZS96OVV6MWljandyTQo=";
/// The maximum number of entries in a chart.
const MAX_ENTRIES: usize = 10_000;

/// Whether the bytes are a chart (Helm, "The Chart File Structure"): one gzip member containing one tar of regular
/// files and directories, all below one directory, which contains a `Chart.yaml`. A root file system labelled as a
/// chart does not match.
pub fn is_chart(bytes: &[u8]) -> bool {
    read(bytes).unwrap_or(false)
}

fn read(mut bytes: &[u8]) -> io::Result<bool> {
    let mut member = GzDecoder::new(&mut bytes);
    let mut unpacked = (&mut member).take(MAX_UNPACKED);
    let holds_chart = holds_chart(Archive::new(&mut unpacked))?;
    // Some readers continue after the end of a tar, and after the end of a gzip member.
    let ends_there = is_zeros(&mut unpacked)? && unpacked.limit() > 0;
    let is_helms = member.header().is_some_and(|header| header.extra().is_none_or(|extra| extra == HELM));
    Ok(holds_chart && ends_there && is_helms && bytes.is_empty())
}

fn is_zeros(mut rest: impl Read) -> io::Result<bool> {
    let mut piece = [0; 8192];
    loop {
        match rest.read(&mut piece)? {
            0 => return Ok(true),
            read if piece[..read].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

fn holds_chart(mut archive: Archive<impl Read>) -> io::Result<bool> {
    let (mut folder, mut has_chart) = (None, false);
    for (number, entry) in archive.entries()?.enumerate() {
        let entry = entry?;
        let path = entry.path()?;
        let kind = entry.header().entry_type();
        let is_plain = matches!(kind, EntryType::Regular | EntryType::Directory);
        let Some(first) = first_folder(&path).filter(|_| is_plain && number < MAX_ENTRIES) else { return Ok(false) };
        if folder.get_or_insert_with(|| first.to_owned()) != first {
            return Ok(false);
        }
        has_chart |= kind == EntryType::Regular && *path == *Path::new(first).join("Chart.yaml");
    }
    Ok(has_chart)
}

/// The first directory of a path; `None` if the path leaves it.
fn first_folder(path: &Path) -> Option<&str> {
    let mut parts = path.components();
    let Some(Component::Normal(first)) = parts.next() else { return None };
    parts.all(|part| matches!(part, Component::Normal(_))).then(|| first.to_str())?
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::GzBuilder;

    use super::*;
    use crate::sample::image::{Layer, Tree};

    fn packed(tree: &Tree) -> Vec<u8> {
        Layer::gzip(tree).bytes.to_vec()
    }

    #[test]
    fn a_chart_has_one_directory_with_a_chart_yaml() {
        let chart =
            || Tree::new().file("app/Chart.yaml", "name: app\n").file("app/templates/web.yaml", "kind: Service\n");
        assert!(is_chart(&packed(&chart())));
        let with_extra = |extra: &[u8]| {
            let writer = GzBuilder::new().extra(extra).comment("Helm");
            let mut writer = writer.write(Vec::new(), flate2::Compression::fast());
            writer.write_all(&chart().to_tar()).unwrap();
            writer.finish().unwrap()
        };
        assert!(is_chart(&with_extra(HELM)));
        for (what, bytes) in [
            ("another extra field in the header", with_extra(b"toc")),
            ("a root file system", packed(&Tree::new().file("bin/sh", "x").file("etc/passwd", "x"))),
            ("a root file system next to a chart", packed(&chart().file("bin/sh", "x"))),
            ("no Chart.yaml", packed(&Tree::new().file("app/values.yaml", "x"))),
            ("a Chart.yaml that is a directory", packed(&Tree::new().file("app/Chart.yaml/x", "x"))),
            ("a link", packed(&chart().symlink("app/link", "/etc/passwd"))),
            ("two gzip members", [packed(&chart()), packed(&chart())].concat()),
            ("trailing data", [packed(&chart()), b"rest".to_vec()].concat()),
            ("a tar after the chart", {
                let rootfs = Tree::new().file("bin/sh", "x").to_tar();
                Layer::gzip_of(&[chart().to_tar(), rootfs].concat()).bytes.to_vec()
            }),
            ("a plain tar", chart().to_tar()),
            ("nothing", Vec::new()),
        ] {
            assert!(!is_chart(&bytes), "{what}");
        }
    }
}
