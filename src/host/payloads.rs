use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Error, StateDir, StateError};
use crate::model::Digest;

/// Where a pack of payloads starts.
const MAGIC: &[u8; 16] = b"trueup payload 1";

/// Contents by digest: those of the revision at hand in memory, those of our own directory behind them.
///
/// In [`StateDir`] they are one *pack* for each desired set, named by the digest of its list:
/// the magic, the number of contents, then for each its digest and length, then the contents.
#[derive(Debug, Default)]
pub struct Payloads {
    memory: BTreeMap<Digest, Arc<[u8]>>,
    kept: Option<StateDir>,
    /// Not read yet.
    pack: Option<Digest>,
}

impl Payloads {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of the pack `name`, which is not read before [`Payloads::fill`] asks for it.
    pub fn of_pack(name: Digest) -> Self {
        Self { pack: Some(name), ..Self::default() }
    }

    /// Reads the pack that was not read yet, each content hashed again; `false` where it is not there or not whole.
    pub fn fill(&mut self, state: &StateDir) -> bool {
        self.pack.take().is_none_or(|name| matches!(self.load(state, &name), Ok(true)))
    }

    /// Also finds what was kept in `state`.
    #[must_use]
    pub fn with_kept(mut self, state: StateDir) -> Self {
        self.kept = Some(state);
        self
    }

    /// Adds a content.
    pub fn insert(&mut self, content: impl Into<Arc<[u8]>>) -> Digest {
        let content = content.into();
        let digest = Digest::of(&content);
        self.memory.insert(digest, content);
        digest
    }

    /// The content named `digest`; what was kept is hashed again before it is believed.
    pub fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.find(digest).ok().flatten()
    }

    /// The content named `digest`, which `thing` cannot do without.
    ///
    /// # Errors
    /// Where it is gone or no longer whole, or that cannot be told since what was kept cannot be read now.
    pub fn need(&self, digest: &Digest, thing: &str) -> Result<Arc<[u8]>, Error> {
        let thing = || thing.to_owned();
        match self.find(digest) {
            Ok(Some(content)) => Ok(content),
            Ok(None) => Err(Error::NoPayload { thing: thing(), digest: digest.short() }),
            Err(error) => Err(Error::Unknown { thing: thing(), why: error.to_string() }),
        }
    }

    fn find(&self, digest: &Digest) -> Result<Option<Arc<[u8]>>, StateError> {
        if let Some(content) = self.memory.get(digest) {
            return Ok(Some(Arc::clone(content)));
        }
        let Some(kept) = &self.kept else { return Ok(None) };
        let content = kept.read(&kept_name(digest))?;
        Ok(content.filter(|content| Digest::of(content) == *digest).map(Arc::from))
    }

    /// How many contents are in memory.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether none is in memory.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// The name of the pack that holds what is in memory now, or would be.
    pub fn pack_name(&self) -> Digest {
        self.pack.unwrap_or_else(|| Digest::of(&self.list()))
    }

    /// Whether the pack of what is in memory is in `state`, as long as it has to be. What is in it is hashed only
    /// when it is read.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn is_stored(&self, state: &StateDir) -> Result<bool, StateError> {
        let length = self.list().len() + self.memory.values().map(|content| content.len()).sum::<usize>();
        Ok(state.size(&Self::pack_file(&self.pack_name()))? == Some(length as u64))
    }

    /// Writes what is in memory as one pack, unless that pack is there and as long as it has to be.
    ///
    /// # Errors
    /// Where our directory cannot be written.
    pub fn store(&self, state: &StateDir) -> Result<Digest, StateError> {
        let name = self.pack_name();
        // Whatever stands there that cannot be looked at is written anew.
        if !self.is_stored(state).unwrap_or(false) {
            self.write(state)?;
        }
        Ok(name)
    }

    /// Writes what is in memory as one pack, whatever stands there: one that was read and is not whole.
    ///
    /// # Errors
    /// Where our directory cannot be written.
    pub fn write(&self, state: &StateDir) -> Result<(), StateError> {
        let list = self.list();
        let contents = self.memory.values().map(|content| &content[..]);
        state.write_pieces(&Self::pack_file(&self.pack_name()), std::iter::once(&list[..]).chain(contents))
    }

    /// Reads a pack back into memory, each content hashed again; `false` where it is not there or not whole.
    ///
    /// # Errors
    /// Where our directory cannot be read.
    pub fn load(&mut self, state: &StateDir, name: &Digest) -> Result<bool, StateError> {
        let Some(pack) = state.read(&Self::pack_file(name))? else { return Ok(false) };
        let Some(contents) = parse(&pack) else { return Ok(false) };
        self.memory.extend(contents);
        Ok(true)
    }

    /// Removes every pack but those named.
    ///
    /// # Errors
    /// Where our directory cannot be read or written.
    pub fn sweep(state: &StateDir, needed: &[Digest]) -> Result<(), StateError> {
        let needed: Vec<String> = needed.iter().map(Self::pack_file).collect();
        for name in state.list("payloads")? {
            let name = format!("payloads/{name}");
            if !needed.contains(&name) {
                state.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The name in [`StateDir`] of a pack.
    pub fn pack_file(name: &Digest) -> String {
        format!("payloads/{name}")
    }

    fn list(&self) -> Vec<u8> {
        let mut list = MAGIC.to_vec();
        list.extend_from_slice(&(self.memory.len() as u64).to_le_bytes());
        for (digest, content) in &self.memory {
            list.extend_from_slice(digest.as_bytes());
            list.extend_from_slice(&(content.len() as u64).to_le_bytes());
        }
        list
    }
}

/// The name in [`StateDir`] of a content that was kept before it was overwritten.
pub fn kept_name(digest: &Digest) -> String {
    format!("kept/{digest}")
}

fn parse(pack: &[u8]) -> Option<BTreeMap<Digest, Arc<[u8]>>> {
    let rest = pack.strip_prefix(MAGIC)?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    let (list, mut contents) = rest.split_at_checked(count.checked_mul(40)?)?;
    let mut found = BTreeMap::new();
    for entry in list.chunks_exact(40) {
        let (digest, length) = entry.split_first_chunk::<32>()?;
        let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
        let (content, after) = contents.split_at_checked(length)?;
        let digest = Digest::from_bytes(*digest);
        if Digest::of(content) != digest {
            return None;
        }
        found.insert(digest, content.into());
        contents = after;
    }
    contents.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_read_when_it_is_asked_for_and_believed_where_it_is_whole() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::new(directory.path().join("state"));
        let mut payloads = Payloads::new();
        let one = payloads.insert(b"one".to_vec());
        let name = payloads.store(&state).expect("stored");
        let mut later = Payloads::of_pack(name);
        assert_eq!((later.pack_name(), later.len(), later.get(&one)), (name, 0, None));
        assert!(later.fill(&state) && later.fill(&state));
        assert_eq!((later.pack_name(), later.get(&one).as_deref()), (name, Some(&b"one"[..])));
        let file = Payloads::pack_file(&name);
        let mut content = state.read(&file).expect("read").expect("there");
        *content.last_mut().expect("not empty") ^= 1;
        state.write(&file, &content).expect("damaged");
        assert!(!Payloads::of_pack(name).fill(&state));
    }

    #[test]
    fn a_pack_that_was_cut_short_is_written_anew() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::new(directory.path().join("state"));
        let mut payloads = Payloads::new();
        payloads.insert(b"one".to_vec());
        payloads.insert(b"two, longer".to_vec());
        assert!(!payloads.is_stored(&state).expect("looked"));
        let name = payloads.store(&state).expect("stored");
        assert!(payloads.is_stored(&state).expect("looked"));
        let file = Payloads::pack_file(&name);
        let whole = state.read(&file).expect("read").expect("there");
        for damage in [&whole[..whole.len() - 1], b""] {
            state.write(&file, damage).expect("damaged");
            assert!(!payloads.is_stored(&state).expect("looked"));
            payloads.store(&state).expect("stored again");
            assert_eq!(state.read(&file).expect("read").as_ref(), Some(&whole));
        }
    }

    #[test]
    fn what_was_kept_and_cannot_be_read_is_not_taken_for_gone() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::new(directory.path().join("state"));
        let payloads = Payloads::new().with_kept(state.clone());
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        state.write(&kept_name(&one), b"one").expect("kept");
        assert_eq!(payloads.need(&one, "/etc/x").expect("kept").as_ref(), b"one");
        assert_eq!(payloads.need(&other, "/etc/x").expect_err("gone").reason(), "no-payload");
        std::fs::create_dir(state.path().join(kept_name(&other))).expect("made");
        assert_eq!(payloads.need(&other, "/etc/x").expect_err("strange").reason(), "cannot-tell");
    }
}
