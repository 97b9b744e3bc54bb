//! Archives that readers read differently, as the table in `zip/end.rs` says.

use super::*;

/// What an archive is, its bytes, and what is read from it.
type ArchiveCase = (&'static str, Vec<u8>, &'static [&'static str]);

/// What is read from an archive with one distribution of Python.
const READ: &[&str] = &["six 1"];
const PROBLEM: &[&str] = &["!"];
const NOTHING: &[&str] = &[];
const TEXT: &str = "Name: six\nVersion: 1\n";

/// An archive without its end record: the bytes, the size of the directory, and its offset.
struct ArchiveParts {
    bytes: Vec<u8>,
    size: u64,
    start: u64,
}

fn parts(item: Item) -> ArchiveParts {
    let mut bytes = zip(&[item]);
    let end = bytes.len() - 22;
    let number = |at: usize| u64::from(u32::from_le_bytes(bytes[end + at..end + at + 4].try_into().unwrap()));
    let (size, start) = (number(12), number(16));
    bytes.truncate(end);
    ArchiveParts { bytes, size, start }
}

fn six() -> ArchiveParts {
    parts(item("six-1.dist-info/METADATA", TEXT))
}

fn other() -> ArchiveParts {
    parts(item("another-2.dist-info/METADATA", "Name: another\nVersion: 2\n"))
}

/// The length of an entry's extra fields and that of its comment, in its header in the directory.
const EXTRA: usize = 30;
const COMMENT: usize = 32;

/// Adds bytes to the only entry of the directory.
fn with(mut parts: ArchiveParts, field: usize, added: &[u8]) -> ArchiveParts {
    let at = usize::try_from(parts.start).unwrap() + field;
    parts.bytes[at..at + 2].copy_from_slice(&le(added.len() as u64, 2));
    parts.bytes.extend(added);
    parts.size += added.len() as u64;
    parts
}

fn end(count: u64, size: u64, start: u64, comment: u64) -> Vec<u8> {
    let counts = [le(count, 2), le(count, 2)].concat();
    [b"PK\x05\x06".to_vec(), le(0, 4), counts, le(size, 4), le(start, 4), le(comment, 2)].concat()
}

/// A ZIP64 record.
fn record(count: u64, size: u64, start: u64) -> Vec<u8> {
    let counts = [le(count, 8), le(count, 8)].concat();
    [b"PK\x06\x06".to_vec(), le(44, 8), le(45, 2), le(45, 2), le(0, 8), counts, le(size, 8), le(start, 8)].concat()
}

/// A locator of the ZIP64 record at this offset.
fn locator(at: u64) -> Vec<u8> {
    [b"PK\x06\x07".to_vec(), le(0, 4), le(at, 8), le(1, 4)].concat()
}

impl ArchiveParts {
    /// The archive with these bytes behind the directory.
    fn then(&self, behind: &[Vec<u8>]) -> Vec<u8> {
        [self.bytes.clone(), behind.concat()].concat()
    }

    fn end(&self, comment: u64) -> Vec<u8> {
        end(1, self.size, self.start, comment)
    }

    fn record(&self) -> Vec<u8> {
        record(1, self.size, self.start)
    }

    fn locator(&self) -> Vec<u8> {
        locator(self.bytes.len() as u64)
    }
}

/// Archives, and what is read from them.
pub(in super::super) fn cases() -> Vec<ArchiveCase> {
    [ends(), large_ends(), other_names()].concat()
}

fn ends() -> Vec<ArchiveCase> {
    let (six, other) = (six(), other());
    let whole = six.then(&[six.end(0)]);
    let too_long = six.then(&[six.end(5)]);
    let first = other.then(&[other.end(0)]);
    let behind = |bytes: &[u8], more: &[u8]| [bytes, more].concat();
    let mut earlier = six.bytes.clone();
    let offset = usize::try_from(six.start).unwrap() + 42;
    earlier[offset] = 7;
    let mut cut = too_long.clone();
    cut[usize::try_from(six.start).unwrap() + 28] = 0xff;
    vec![
        ("an archive", whole.clone(), READ),
        ("a name beyond the directory", behind(b"\n", &cut), PROBLEM),
        ("the same behind another archive", behind(&first, &cut), PROBLEM),
        ("a comment", six.then(&[six.end(2), b"hi".to_vec()]), READ),
        ("a comment that ends after the file", too_long.clone(), READ),
        ("the same behind a byte", behind(b"\n", &too_long), READ),
        ("the same behind another archive", behind(&first, &too_long), PROBLEM),
        ("an archive behind another one", behind(&first, &whole), READ),
        ("an archive between other bytes", [b"\n", &whole[..], b"junk"].concat(), READ),
        ("an archive as far in front of the end as Java looks", behind(b"\n", &behind(&whole, &[b'x'; 65_600])), READ),
        ("an archive further in front of the end", behind(b"\n", &behind(&whole, &[b'x'; 70_000])), NOTHING),
        ("an archive as a comment", six.then(&[six.end(first.len() as u64), first.clone()]), PROBLEM),
        ("an archive with another one at the stated place", behind(&whole, &whole), PROBLEM),
        ("a directory that is too long", behind(&first, &six.then(&[end(1, six.size + 1, six.start, 0)])), PROBLEM),
        ("bytes behind the directory", six.then(&[b"x".to_vec(), six.end(0)]), PROBLEM),
        ("an archive that begins before the file", [earlier, end(1, six.size, six.start + 7, 0)].concat(), READ),
        ("an empty directory behind the archive", behind(&whole, &end(0, 0, 0, 0)), PROBLEM),
        ("an empty directory that does not end the file", behind(&whole, &end(0, 0, 0, 3)), READ),
        ("only an empty directory", end(0, 0, 0, 0), NOTHING),
        ("too many end records", b"PK\x05\x06".repeat(2_000), PROBLEM),
    ]
}

fn large_ends() -> Vec<ArchiveCase> {
    let (six, other) = (six(), other());
    let (large, max) = ([six.record(), six.locator()].concat(), u64::from(u32::MAX));
    let legal = six.then(&[large.clone(), six.end(0)]);
    // The last entry's comment holds the directory of the other archive, which is in front, and a ZIP64 record for it.
    let directory = other.bytes[usize::try_from(other.start).unwrap()..].to_vec();
    let comment = |front: u64| {
        let at = front + six.bytes.len() as u64;
        [directory.clone(), record(1, other.size, at), locator(at + other.size)].concat()
    };
    let two = |count: u64| {
        let front = other.bytes.len() as u64;
        let six = with(parts(item("six-1.dist-info/METADATA", TEXT)), COMMENT, &comment(front));
        [other.bytes.clone(), six.then(&[end(count, six.size, six.start, 0)])].concat()
    };
    vec![
        ("a ZIP64 record with the values of the end record", legal.clone(), READ),
        ("the same behind a byte", [b"\n", &legal[..]].concat(), READ),
        ("a count of 64 bits", six.then(&[large.clone(), end(0xffff, six.size, six.start, 0)]), READ),
        ("values of 64 bits", six.then(&[large.clone(), end(0xffff, max, max, 0)]), READ),
        ("the same behind a byte", [b"\n".to_vec(), six.then(&[large, end(0xffff, max, max, 0)])].concat(), READ),
        ("two directories, of which Java takes the first", two(0xffff), PROBLEM),
        ("two directories, of which Python takes the second", two(1), PROBLEM),
        (
            "a ZIP64 record without a locator",
            [other.then(&[other.end(0)]), six.then(&[six.record(), vec![0; 20], six.end(0)])].concat(),
            READ,
        ),
        ("a locator of nothing", six.then(&[locator(3), end(1, six.size, six.start, 0)]), PROBLEM),
        ("values at their maximum without a record", six.then(&[end(0xffff, max, max, 0)]), PROBLEM),
    ]
}

fn other_names() -> Vec<ArchiveCase> {
    let name = "six-1.dist-info/METADATA";
    let unicode = |version: u8, of: &str, name: &str| {
        let mut checksum = flate2::Crc::new();
        checksum.update(of.as_bytes());
        let field = [vec![version], le(checksum.sum().into(), 4), name.as_bytes().to_vec()].concat();
        let extra = [le(0x5455, 2), le(1, 2), vec![0], le(0x7075, 2), le(field.len() as u64, 2), field].concat();
        let parts = with(parts(item("a.txt", TEXT)), EXTRA, &extra);
        parts.then(&[parts.end(0)])
    };
    let local = |name: &str, local_name: &str| zip(&[Item { local_name: local_name.to_owned(), ..item(name, TEXT) }]);
    let with_nul = format!("{name}\0.txt");
    vec![
        ("a name that Python cuts", zip(&[item(&with_nul, TEXT)]), READ),
        ("a name in an extra field", unicode(1, "a.txt", name), READ),
        ("the same, which Python cuts", unicode(1, "a.txt", &with_nul), READ),
        ("a name for another one", unicode(1, "b.txt", name), NOTHING),
        ("an unknown version of the field", unicode(2, "a.txt", name), NOTHING),
        ("another name in the local header", local("a.txt", name), PROBLEM),
        ("another name in the directory", local(name, "a.txt"), PROBLEM),
        ("other names that say nothing", local("a.txt", "b.txt"), NOTHING),
    ]
}

#[test]
fn what_any_reader_sees_is_read_or_a_problem() {
    for (what, file, expected) in cases() {
        assert_eq!(names(&read("x.egg", &file)), expected, "{what}");
    }
}
