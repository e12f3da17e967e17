//! Objects and packs as somebody makes them who keeps to no rule; gitformat-pack(5).

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix_hash::ObjectId;
use gix_object::Kind;

/// Who makes commits here.
pub const WHO: &str = "Ana <ana@example.org> 1700000000 +0000";

/// Objects that hash to their ids, whatever they say.
#[derive(Debug, Clone)]
pub struct Objects {
    hash: gix_hash::Kind,
    all: BTreeMap<ObjectId, (Kind, Vec<u8>)>,
}

impl Objects {
    pub fn new(hash: gix_hash::Kind) -> Self {
        Self { hash, all: BTreeMap::new() }
    }

    pub fn id(&self, kind: Kind, content: &[u8]) -> ObjectId {
        gix_object::compute_hash(self.hash, kind, content).expect("no collision")
    }

    pub fn put(&mut self, kind: Kind, content: &[u8]) -> ObjectId {
        let id = self.id(kind, content);
        self.all.insert(id, (kind, content.to_vec()));
        id
    }

    pub fn blob(&mut self, content: &[u8]) -> ObjectId {
        self.put(Kind::Blob, content)
    }

    /// Entries as they are given, in that order: mode, name, id.
    pub fn tree(&mut self, entries: &[(&str, &str, ObjectId)]) -> ObjectId {
        let content: Vec<u8> = entries
            .iter()
            .flat_map(|(mode, name, id)| [format!("{mode} {name}\0").as_bytes(), id.as_slice()].concat())
            .collect();
        self.put(Kind::Tree, &content)
    }

    /// A commit with these headers, whole lines, before its author.
    pub fn commit(&mut self, headers: &str) -> ObjectId {
        self.put(Kind::Commit, format!("{headers}author {WHO}\ncommitter {WHO}\n\nodd\n").as_bytes())
    }

    /// A fleet whose web-01 has the file /etc/motd with this content; its tree.
    pub fn fleet(&mut self, motd: &[u8]) -> ObjectId {
        let motd = self.blob(motd);
        self.fleet_of(motd)
    }

    /// The same, with the file's id.
    pub fn fleet_of(&mut self, motd: ObjectId) -> ObjectId {
        let etc = self.tree(&[("100644", "motd", motd)]);
        self.fleet_with(&[("40000", "etc", etc)])
    }

    /// The same, with what is in the tree of its files.
    pub fn fleet_with(&mut self, files: &[(&str, &str, ObjectId)]) -> ObjectId {
        let files = self.tree(files);
        let host = self.tree(&[("40000", "files", files)]);
        let hosts = self.tree(&[("40000", "web-01", host)]);
        let toml = self.blob(b"format = 1\n");
        self.tree(&[("40000", "hosts", hosts), ("100644", "trueup.toml", toml)])
    }

    pub fn remove(&mut self, id: ObjectId) {
        self.all.remove(&id).expect("it was there");
    }

    /// All of them in a pack.
    pub fn pack(&self) -> Pack {
        let mut pack = Pack::new(self.hash);
        for (kind, content) in self.all.values() {
            pack.object(*kind, content);
        }
        pack
    }
}

/// A pack, part by part.
#[derive(Debug, Clone)]
pub struct Pack {
    hash: gix_hash::Kind,
    entries: Vec<u8>,
    pub count: u32,
}

impl Pack {
    pub fn new(hash: gix_hash::Kind) -> Self {
        Self { hash, entries: Vec::new(), count: 0 }
    }

    pub fn object(&mut self, kind: Kind, content: &[u8]) {
        let number = match kind {
            Kind::Commit => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        self.entry(&head(number, content.len() as u64), &deflated(content));
    }

    /// Where the next entry begins.
    pub fn here(&self) -> u64 {
        12 + self.entries.len() as u64
    }

    /// What a delta makes of the entry that began at `base`.
    pub fn delta_at(&mut self, base: u64, delta: &[u8]) {
        let mut before = self.here() - base;
        let mut distance = vec![(before & 127) as u8];
        while before >= 128 {
            before = (before >> 7) - 1;
            distance.insert(0, 128 | (before & 127) as u8);
        }
        self.entry(&[head(6, delta.len() as u64), distance].concat(), &deflated(delta));
    }

    /// What a delta makes of the object `base`.
    pub fn delta_of(&mut self, base: ObjectId, delta: &[u8]) {
        self.entry(&[&head(7, delta.len() as u64), base.as_slice()].concat(), &deflated(delta));
    }

    /// An entry that says of itself what `head` says.
    pub fn entry(&mut self, head: &[u8], deflated: &[u8]) {
        self.entries.extend_from_slice(head);
        self.entries.extend_from_slice(deflated);
        self.count += 1;
    }

    /// All of it, its checksum right.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [b"PACK\0\0\0\x02", &self.count.to_be_bytes()[..], &self.entries].concat();
        let mut hasher = gix_hash::hasher(self.hash);
        hasher.update(&bytes);
        bytes.extend_from_slice(hasher.try_finalize().expect("no collision").as_slice());
        bytes
    }
}

/// The head of an entry: what it is, and how long it says it is.
pub fn head(kind: u8, mut length: u64) -> Vec<u8> {
    let mut bytes = vec![kind << 4 | (length & 15) as u8];
    length >>= 4;
    while length > 0 {
        *bytes.last_mut().expect("not empty") |= 128;
        bytes.push((length & 127) as u8);
        length >>= 7;
    }
    bytes
}

pub fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

/// So many zeros, deflated.
pub fn zeros(mut length: u64) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let block = [0; 1 << 16];
    while length > 0 {
        let n = length.min(1 << 16);
        encoder.write_all(&block[..usize::try_from(n).expect("small")]).expect("memory");
        length -= n;
    }
    encoder.finish().expect("memory")
}

/// A delta that keeps the first `kept` of `from` bytes and goes on with `then` (at most 127 bytes).
pub fn delta(from: usize, kept: usize, then: &[u8]) -> Vec<u8> {
    let varint = |mut n: usize| {
        let mut bytes = Vec::new();
        while n >= 128 {
            bytes.push(n as u8 & 127 | 128);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    };
    let copy = [0x80 | 0x70, kept as u8, (kept >> 8) as u8, (kept >> 16) as u8];
    let insert = [u8::try_from(then.len()).expect("short")];
    [&varint(from), &varint(kept + then.len()), &copy[..], &insert[..], then].concat()
}
