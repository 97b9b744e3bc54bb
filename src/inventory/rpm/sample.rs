//! Builds RPM headers and databases for tests.

/// A tag of a header: number, type, count, content.
type SampleTag = (u32, u32, u32, Vec<u8>);

/// A package to build a header of. Empty texts are left out.
#[derive(Clone, Default)]
pub(super) struct SampleRpm {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) release: &'static str,
    pub(super) epoch: Option<u32>,
    pub(super) arch: &'static str,
    pub(super) source: &'static str,
    pub(super) module: &'static str,
    pub(super) vendor: &'static str,
    pub(super) license: &'static str,
    /// Directories and names of files.
    pub(super) files: Vec<(&'static str, &'static str)>,
    /// The digests of these files, and the targets of those that are links. Left out if there are none.
    pub(super) digests: Vec<(&'static str, &'static str)>,
    /// Bytes of a tag that is not read.
    pub(super) padding: usize,
}

impl SampleRpm {
    pub(super) fn header(&self) -> Vec<u8> {
        let text = |value: &str| [value.as_bytes(), b"\0"].concat();
        let texts = [
            (1000, self.name),
            (1001, self.version),
            (1002, self.release),
            (1011, self.vendor),
            (1014, self.license),
            (1022, self.arch),
            (1044, self.source),
            (5096, self.module),
        ];
        let stated = texts.iter().filter(|(_, value)| !value.is_empty());
        let mut tags: Vec<SampleTag> = stated.map(|(tag, value)| (*tag, 6, 1, text(value))).collect();
        if let Some(epoch) = self.epoch {
            tags.push((1003, 4, 1, epoch.to_be_bytes().to_vec()));
        }
        if !self.files.is_empty() {
            let count = u32::try_from(self.files.len()).unwrap();
            let indexes = (0..count).flat_map(u32::to_be_bytes).collect();
            tags.push((1116, 4, count, indexes));
            tags.push((1117, 8, count, self.files.iter().flat_map(|(_, name)| text(name)).collect()));
            tags.push((1118, 8, count, self.files.iter().flat_map(|(directory, _)| text(directory)).collect()));
        }
        if !self.digests.is_empty() {
            let count = u32::try_from(self.digests.len()).unwrap();
            tags.push((1035, 8, count, self.digests.iter().flat_map(|(digest, _)| text(digest)).collect()));
            tags.push((1036, 8, count, self.digests.iter().flat_map(|(_, target)| text(target)).collect()));
        }
        if self.padding > 0 {
            tags.push((1005, 7, u32::try_from(self.padding).unwrap(), vec![b'x'; self.padding]));
        }
        header(&tags)
    }
}

/// A header with these tags, in a region as rpm writes it.
pub(super) fn header(tags: &[SampleTag]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, kind, count, content) in tags {
        if *kind == 4 {
            data.resize(data.len().next_multiple_of(4), 0);
        }
        for number in [*tag, *kind, u32::try_from(data.len()).unwrap(), *count] {
            index.extend(number.to_be_bytes());
        }
        data.extend(content);
    }
    let offset = u32::try_from(data.len()).unwrap();
    let region: Vec<u8> = [63, 7, offset, 16].iter().flat_map(|number: &u32| number.to_be_bytes()).collect();
    data.extend(&region);
    let lengths = [tags.len() + 1, data.len()];
    let start = lengths.iter().flat_map(|length| u32::try_from(*length).unwrap().to_be_bytes());
    start.chain(region.iter().copied()).chain(index).chain(data).collect()
}

/// A database in the format ndb.
pub(super) fn ndb(headers: &[Vec<u8>]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut file = [&b"RpmP"[..], &number(0), &number(1), &number(1), &[0; 16]].concat();
    let mut blobs = Vec::new();
    for (index, header) in headers.iter().enumerate() {
        let block = (4096 + blobs.len()) / 16;
        let blob = [&b"BlbS"[..], &number(index + 1), &number(0), &number(header.len()), header].concat();
        blobs.extend(&blob);
        blobs.resize(blobs.len().next_multiple_of(16), 0);
        file.extend([&b"Slot"[..], &number(index + 1), &number(block), &number(blob.len().div_ceil(16))].concat());
    }
    while file.len() < 4096 {
        file.extend([&b"Slot"[..], &[0; 12]].concat());
    }
    file.extend(blobs);
    file
}

/// The page size of [`bdb`], in bytes.
const PAGE: usize = 512;

/// A hash database of Berkeley DB: a meta page, one hash page, and overflow pages.
pub(super) fn bdb(headers: &[Vec<u8>], big: bool) -> Vec<u8> {
    let four = |number: usize| {
        let number = u32::try_from(number).unwrap();
        if big { number.to_be_bytes() } else { number.to_le_bytes() }
    };
    let two = |number: usize| {
        let number = u16::try_from(number).unwrap();
        if big { number.to_be_bytes() } else { number.to_le_bytes() }
    };
    let mut overflow: Vec<Vec<u8>> = Vec::new();
    let mut items = vec![[&[1][..], &four(0)].concat(), [&[1][..], &four(headers.len())].concat()];
    for (index, header) in headers.iter().enumerate() {
        items.push([&[1][..], &four(index + 1)].concat());
        items.push([&[3, 0, 0, 0][..], &four(2 + overflow.len()), &four(header.len())].concat());
        let parts: Vec<&[u8]> = header.chunks(PAGE - 26).collect();
        for (at, part) in parts.iter().enumerate() {
            let number = 2 + overflow.len();
            let next = if at + 1 < parts.len() { number + 1 } else { 0 };
            let mut page =
                [&[0; 8][..], &four(number), &four(0), &four(next), &two(1), &two(part.len()), &[0, 7]].concat();
            page.extend(*part);
            page.resize(PAGE, 0);
            overflow.push(page);
        }
    }
    let mut hash = [&[0; 8][..], &four(1), &four(0), &four(0), &two(items.len()), &two(0), &[0, 13]].concat();
    hash.resize(PAGE, 0);
    let mut end = PAGE;
    for (index, item) in items.iter().enumerate() {
        end -= item.len();
        hash[end..end + item.len()].copy_from_slice(item);
        hash[26 + 2 * index..28 + 2 * index].copy_from_slice(&two(end));
    }
    let mut meta = [&[0; 12][..], &four(0x0006_1561), &four(9), &four(PAGE), &[0, 8, 0, 0], &four(0)].concat();
    meta.extend(four(1 + overflow.len()));
    meta.resize(PAGE, 0);
    [meta, hash, overflow.concat()].concat()
}

/// A database of two packages, one of which has no name.
pub(in crate::inventory) fn half_damaged() -> Vec<u8> {
    let good = SampleRpm { name: "one", version: "1", release: "1", ..SampleRpm::default() };
    ndb(&[SampleRpm { name: "", ..good.clone() }.header(), good.header()])
}

/// A package of a vendor with one file.
#[derive(Clone, Copy)]
pub(in crate::inventory) struct VendorFile {
    pub(in crate::inventory) vendor: &'static str,
    pub(in crate::inventory) directory: &'static str,
    pub(in crate::inventory) name: &'static str,
    /// In hex. Empty for a file of which only the path is stated.
    pub(in crate::inventory) digest: &'static str,
    /// That of a symbolic link. Empty for other files.
    pub(in crate::inventory) target: &'static str,
}

/// A database of these packages.
pub(in crate::inventory) fn of_vendors(packages: &[VendorFile]) -> Vec<u8> {
    let header = |file: &VendorFile| {
        let files = vec![(file.directory, file.name)];
        let digests = vec![(file.digest, file.target)];
        let package = SampleRpm { name: "one", version: "1", release: "1", ..SampleRpm::default() };
        SampleRpm { vendor: file.vendor, files, digests, ..package }.header()
    };
    ndb(&packages.iter().map(header).collect::<Vec<_>>())
}
