//! Helm charts: archives by nature, told from a layer of an image by what is in them.

use std::io::{self, Read};
use std::path::{Component, Path};

use flate2::bufread::GzDecoder;
use tar::{Archive, EntryType};

/// The most that a chart may unpack to, in bytes.
const MAX_UNPACKED: u64 = 256 * 1024 * 1024;
/// What Helm writes into the extra field of the gzip header (helm, pkg/chart/v2/util/save.go); anything else there might be
/// more than a greeting.
const HELM: &[u8] = b"+aHR0cHM6Ly95b3V0dS5iZS96OVV6MWljandyTQo=";
/// The most entries of a chart.
const MAX_ENTRIES: usize = 10_000;

/// Whether some bytes are a chart (Helm, "The Chart File Structure"): one gzip member over one tar of plain files and
/// folders, all of them below one folder, which holds a `Chart.yaml`. So a root file system that is called a chart is none.
pub fn is_chart(bytes: &[u8]) -> bool {
    read(bytes).unwrap_or(false)
}

fn read(mut bytes: &[u8]) -> io::Result<bool> {
    let mut member = GzDecoder::new(&mut bytes);
    let mut unpacked = (&mut member).take(MAX_UNPACKED);
    let holds_chart = holds_chart(Archive::new(&mut unpacked))?;
    // Some readers go on after the end of a tar, and after the end of a gzip member.
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

/// The folder that a path begins with; `None` where it leads elsewhere.
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
    fn a_chart_has_one_folder_with_its_description() {
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
            ("something else in the header", with_extra(b"toc")),
            ("a root file system", packed(&Tree::new().file("bin/sh", "x").file("etc/passwd", "x"))),
            ("a root file system beside a chart", packed(&chart().file("bin/sh", "x"))),
            ("no description", packed(&Tree::new().file("app/values.yaml", "x"))),
            ("a description that is a folder", packed(&Tree::new().file("app/Chart.yaml/x", "x"))),
            ("a link", packed(&chart().symlink("app/link", "/etc/passwd"))),
            ("two members", [packed(&chart()), packed(&chart())].concat()),
            ("a member and something else", [packed(&chart()), b"rest".to_vec()].concat()),
            ("a tar behind the chart", {
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
