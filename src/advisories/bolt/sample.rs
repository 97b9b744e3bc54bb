//! Writes bbolt files for tests.

use std::collections::BTreeMap;

use super::meta::fnv1a;

const HEADER: usize = 16;

/// A bucket in memory.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct SampleTree(BTreeMap<Vec<u8>, SampleNode>);

#[derive(Clone, Debug)]
enum SampleNode {
    Value(Vec<u8>),
    Bucket(SampleTree),
}

impl SampleTree {
    /// Adds a value in the bucket at `path`, which is created if it does not exist.
    pub(in super::super) fn put(&mut self, path: &[&str], key: &str, value: impl AsRef<[u8]>) {
        self.bucket(path).0.insert(key.into(), SampleNode::Value(value.as_ref().to_vec()));
    }

    /// The bucket at `path`, which is created if it does not exist.
    pub(in super::super) fn bucket(&mut self, path: &[&str]) -> &mut Self {
        path.iter().fold(self, |tree, name| {
            match tree.0.entry(name.as_bytes().to_vec()).or_insert_with(|| SampleNode::Bucket(Self::default())) {
                SampleNode::Bucket(inner) => inner,
                SampleNode::Value(_) => panic!("{name} is a value"),
            }
        })
    }

    /// The file.
    pub(in super::super) fn write(&self, page_size: usize) -> Vec<u8> {
        let mut file = vec![0; 3 * page_size];
        // Page 2 is an empty list of free pages.
        file[2 * page_size..][..HEADER].copy_from_slice(&header(2, 0x10, 0, 0));
        let root = self.write_pages(&mut file, page_size);
        let pages = (file.len() / page_size) as u64;
        for number in 0..2 {
            let meta = meta(number, page_size, root, pages);
            file[usize::try_from(number).unwrap() * page_size..][..meta.len()].copy_from_slice(&meta);
        }
        file
    }

    /// Appends the pages of this bucket; returns the number of its root page.
    fn write_pages(&self, file: &mut Vec<u8>, page_size: usize) -> u64 {
        let items: Vec<SampleItem> = self.0.iter().map(|(key, node)| node.item(key, file, page_size)).collect();
        let mut level = append(file, page_size, 2, items);
        while level.len() > 1 {
            level = append(file, page_size, 1, level);
        }
        level[0].child
    }
}

impl SampleNode {
    fn item(&self, key: &[u8], file: &mut Vec<u8>, page_size: usize) -> SampleItem {
        let (flags, value) = match self {
            Self::Value(value) => (0, value.clone()),
            Self::Bucket(tree) => (1, tree.value(file, page_size)),
        };
        SampleItem { flags, key: key.to_vec(), value, child: 0 }
    }
}

impl SampleTree {
    /// The value of the element of this bucket: inline if it is small and has no buckets, as bbolt does it.
    fn value(&self, file: &mut Vec<u8>, page_size: usize) -> Vec<u8> {
        let size = |(key, node): (&Vec<u8>, &SampleNode)| match node {
            SampleNode::Value(value) => HEADER + key.len() + value.len(),
            SampleNode::Bucket(_) => usize::MAX / 1000,
        };
        if self.0.iter().map(size).fold(HEADER, usize::saturating_add) > page_size / 4 {
            return [self.write_pages(file, page_size).to_le_bytes(), [0; 8]].concat();
        }
        let items: Vec<SampleItem> = self.0.iter().map(|(key, node)| node.item(key, file, page_size)).collect();
        [vec![0; 16], page(0, 2, &items, 0)].concat()
    }
}

struct SampleItem {
    flags: u32,
    key: Vec<u8>,
    value: Vec<u8>,
    child: u64,
}

/// Appends pages with these items. Returns an item for each page.
fn append(file: &mut Vec<u8>, page_size: usize, flags: u16, items: Vec<SampleItem>) -> Vec<SampleItem> {
    let mut groups: Vec<(usize, Vec<SampleItem>)> = vec![(HEADER, Vec::new())];
    for item in items {
        let size = HEADER + item.key.len() + item.value.len();
        let (used, group) = groups.last_mut().unwrap();
        if *used + size > page_size && group.len() >= 2 {
            groups.push((HEADER + size, vec![item]));
        } else {
            *used += size;
            group.push(item);
        }
    }
    let write = |(used, group): (usize, Vec<SampleItem>)| {
        let number = (file.len() / page_size) as u64;
        let overflow = used.div_ceil(page_size) - 1;
        let mut bytes = page(number, flags, &group, overflow);
        bytes.resize((overflow + 1) * page_size, 0);
        file.append(&mut bytes);
        let key = group.first().map(|item| item.key.clone()).unwrap_or_default();
        SampleItem { flags: 0, key, value: Vec::new(), child: number }
    };
    groups.into_iter().map(write).collect()
}

fn page(number: u64, flags: u16, items: &[SampleItem], overflow: usize) -> Vec<u8> {
    let mut bytes = header(number, flags, items.len(), overflow).to_vec();
    let mut data = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let position = u32::try_from((items.len() - index) * HEADER + data.len()).unwrap();
        let (key, value) = (item.key.len() as u32, item.value.len() as u32);
        let words = if flags == 1 {
            [position, key, item.child as u32, (item.child >> 32) as u32]
        } else {
            [item.flags, position, key, value]
        };
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        data.extend_from_slice(&item.key);
        data.extend_from_slice(&item.value);
    }
    [bytes, data].concat()
}

fn header(number: u64, flags: u16, count: usize, overflow: usize) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..10].copy_from_slice(&flags.to_le_bytes());
    bytes[10..12].copy_from_slice(&u16::try_from(count).unwrap().to_le_bytes());
    bytes[12..].copy_from_slice(&u32::try_from(overflow).unwrap().to_le_bytes());
    bytes
}

/// A meta page. The transaction's number is that of the page, so page 1 counts.
pub(super) fn meta(number: u64, page_size: usize, root: u64, pages: u64) -> Vec<u8> {
    let mut content = Vec::new();
    for word in [0xED0C_DAED, 2, u32::try_from(page_size).unwrap(), 0] {
        content.extend_from_slice(&u32::to_le_bytes(word));
    }
    for word in [root, 0, 2, pages, number] {
        content.extend_from_slice(&u64::to_le_bytes(word));
    }
    content.extend_from_slice(&fnv1a(&content).to_le_bytes());
    [header(number, 4, 0, 0).to_vec(), content].concat()
}
