use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{Error, StateDir, StateError};
use crate::model::Digest;

/// Where a pack of payloads starts.
const MAGIC: &[u8; 16] = b"trueup payload 1";

/// How long an entry of its list is: a digest and a length.
const ENTRY: usize = 40;

/// Contents by digest: those of the revision at hand in memory or in its pack, those of our own directory behind them.
///
/// In [`StateDir`] they are one *pack* for each desired set, named by the digest of its list:
/// the magic, the number of contents, then for each its digest and length, then the contents.
#[derive(Debug, Default)]
pub struct Payloads {
    memory: BTreeMap<Digest, Arc<[u8]>>,
    kept: Option<StateDir>,
    /// Where they are instead of in memory.
    pack: Option<Pack>,
}

/// A pack that is there. Of its contents those are read that are asked for.
#[derive(Debug)]
struct Pack {
    name: Digest,
    /// Not yet, as long as nothing was asked for.
    opened: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    state: StateDir,
    /// By digest.
    places: Vec<Place>,
}

/// Where a content is in a pack, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    digest: Digest,
    at: u64,
    length: usize,
}

impl Payloads {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of the pack `name`, which is not looked at before [`Payloads::open`].
    pub fn of_pack(name: Digest) -> Self {
        Self { pack: Some(Pack { name, opened: None }), ..Self::default() }
    }

    /// Opens the pack that they are of, where they are of one; `false` where it is not there or not as long as it has
    /// to be. Each content is hashed when it is read.
    pub fn open(&mut self, state: &StateDir) -> bool {
        match &mut self.pack {
            Some(pack) if pack.opened.is_none() => {
                pack.opened = Opened::look(state, &pack.name).ok().flatten();
                pack.opened.is_some()
            }
            _ => true,
        }
    }

    /// Whether each of `needed` that is in the pack is whole there.
    pub fn are_whole(&self, mut needed: impl Iterator<Item = Digest>) -> bool {
        let Some(Pack { opened, .. }) = &self.pack else { return true };
        needed.all(|digest| match opened.as_ref().and_then(|pack| pack.place(&digest).map(|place| (pack, place))) {
            Some((pack, place)) => matches!(pack.read(place), Ok(Some(_))),
            None => true,
        })
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
        let opened = self.pack.as_ref().and_then(|pack| pack.opened.as_ref());
        if let Some((pack, place)) = opened.and_then(|pack| pack.place(digest).map(|place| (pack, place)))
            && let Some(content) = pack.read(place)?
        {
            return Ok(Some(content));
        }
        let Some(kept) = &self.kept else { return Ok(None) };
        let name = kept_name(digest);
        let Some((file, meta)) = kept.open(&name)? else { return Ok(None) };
        let length = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        let content = shared(&file, 0, length).map_err(kept.error("read", &name))?;
        Ok(Some(content).filter(|content| Digest::of(content) == *digest))
    }

    /// How many contents are in memory.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether none is in memory.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// The name of the pack that holds them, or would.
    pub fn pack_name(&self) -> Digest {
        self.pack.as_ref().map_or_else(|| Digest::of(&self.list()), |pack| pack.name)
    }

    /// Whether their pack is in `state`, as long as it has to be.
    fn is_stored(&self, state: &StateDir) -> Result<bool, StateError> {
        if self.pack.is_some() {
            return Ok(true);
        }
        let length = self.list().len() + self.memory.values().map(|content| content.len()).sum::<usize>();
        Ok(state.size(&Self::pack_file(&self.pack_name()))? == Some(length as u64))
    }

    /// Writes what is in memory as one pack, unless that pack is there and as long as it has to be.
    ///
    /// # Errors
    /// Where our directory cannot be written.
    pub fn store(&self, state: &StateDir) -> Result<Digest, StateError> {
        // Whatever stands there that cannot be looked at is written anew.
        if !self.is_stored(state).unwrap_or(false) {
            self.write(state)?;
        }
        Ok(self.pack_name())
    }

    /// Writes what is in memory as one pack, whatever stands there: one that was read and is not whole. What is read from
    /// a pack is in it already.
    ///
    /// # Errors
    /// Where our directory cannot be written.
    pub fn write(&self, state: &StateDir) -> Result<(), StateError> {
        if self.pack.is_some() {
            return Ok(());
        }
        let list = self.list();
        let contents = self.memory.values().map(|content| &content[..]);
        state.write_pieces(&Self::pack_file(&self.pack_name()), std::iter::once(&list[..]).chain(contents))
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

impl Opened {
    /// Opens the pack `name`; `None` where it is not there, or is not the one of that name, or not as long as it has to be.
    fn look(state: &StateDir, name: &Digest) -> Result<Option<Self>, StateError> {
        let path = Payloads::pack_file(name);
        let Some((file, meta)) = state.open(&path)? else { return Ok(None) };
        let failed = || state.error("read", &path);
        let mut head = [0; MAGIC.len() + 8];
        if meta.len() < head.len() as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut head, 0).map_err(failed())?;
        let count = head.last_chunk().map_or(0, |count| u64::from_le_bytes(*count));
        let length = count.checked_mul(ENTRY as u64).and_then(|entries| entries.checked_add(head.len() as u64));
        let Some(length) =
            length.filter(|length| *length <= meta.len()).and_then(|length| usize::try_from(length).ok())
        else {
            return Ok(None);
        };
        let mut list = vec![0; length];
        file.read_exact_at(&mut list, 0).map_err(failed())?;
        // Of that digest is no other list.
        if Digest::of(&list) != *name {
            return Ok(None);
        }
        let places = places(&list[head.len()..], length as u64);
        let end = places.last().map_or(length as u64, |place| place.at + place.length as u64);
        let state = state.clone();
        Ok((end == meta.len()).then_some(Self { file, state, places }))
    }

    fn place(&self, digest: &Digest) -> Option<&Place> {
        self.places.binary_search_by_key(digest, |place| place.digest).ok().map(|found| &self.places[found])
    }

    /// The content there; `None` where it is not whole.
    fn read(&self, place: &Place) -> Result<Option<Arc<[u8]>>, StateError> {
        let content = shared(&self.file, place.at, place.length).map_err(self.state.error("read", "payloads"))?;
        Ok((Digest::of(&content) == place.digest).then_some(content))
    }
}

/// So many bytes of `file`, in memory once.
fn shared(file: &File, at: u64, length: usize) -> std::io::Result<Arc<[u8]>> {
    let mut content: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
    file.read_exact_at(Arc::get_mut(&mut content).expect("nobody else has it yet"), at)?;
    Ok(content)
}

/// The places that a list names, the first of which is at `at`.
fn places(entries: &[u8], mut at: u64) -> Vec<Place> {
    let (entries, _) = entries.as_chunks::<ENTRY>();
    let place = |entry: &[u8; ENTRY]| {
        let (digest, length) = entry.split_first_chunk::<32>()?;
        let digest = Digest::from_bytes(*digest);
        let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
        let here = at;
        at = at.checked_add(length as u64)?;
        Some(Place { digest, at: here, length })
    };
    entries.iter().map_while(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_of_a_pack_is_read_when_it_is_asked_for_and_believed_where_it_is_whole() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::new(directory.path().join("state"));
        let mut payloads = Payloads::new();
        let [one, two] = ["one", "two, longer"].map(|content| payloads.insert(content.as_bytes()));
        let none = payloads.insert(Vec::new());
        let name = payloads.store(&state).expect("stored");
        let mut later = Payloads::of_pack(name);
        assert_eq!((later.pack_name(), later.get(&one)), (name, None));
        assert!(later.open(&state) && later.open(&state));
        assert!(later.are_whole([one, two, none, Digest::of(b"another")].into_iter()));
        for (digest, content) in [(one, &b"one"[..]), (two, b"two, longer"), (none, b"")] {
            assert_eq!(later.get(&digest).as_deref(), Some(content));
        }
        assert_eq!((later.get(&Digest::of(b"another")), later.len(), later.pack_name()), (None, 0, name));

        // One that is damaged is no reason to doubt another.
        let file = Payloads::pack_file(&name);
        let mut content = state.read(&file).expect("read").expect("there");
        let at = content.windows(3).position(|part| part == b"one").expect("in it");
        content[at] ^= 1;
        state.write(&file, &content).expect("damaged");
        let mut later = Payloads::of_pack(name);
        assert!(later.open(&state) && !later.are_whole([two, one].into_iter()) && later.are_whole([two].into_iter()));
        assert_eq!((later.get(&one), later.get(&two).as_deref()), (None, Some(&b"two, longer"[..])));
        // What is read from a pack is not written over it.
        later.write(&state).expect("nothing to do");
        assert_eq!(state.read(&file).expect("read"), Some(content));
    }

    #[test]
    fn a_pack_whose_list_or_length_is_another_is_not_opened() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::new(directory.path().join("state"));
        let mut payloads = Payloads::new();
        payloads.insert(b"one".to_vec());
        let name = payloads.store(&state).expect("stored");
        let file = Payloads::pack_file(&name);
        let whole = state.read(&file).expect("read").expect("there");
        assert!(Payloads::of_pack(name).open(&state));
        for at in 0..MAGIC.len() + 8 + ENTRY {
            let mut other = whole.clone();
            other[at] ^= 0x80;
            state.write(&file, &other).expect("damaged");
            assert!(!Payloads::of_pack(name).open(&state), "byte {at}");
        }
        for length in 0..whole.len() {
            state.write(&file, &whole[..length]).expect("cut short");
            assert!(!Payloads::of_pack(name).open(&state), "{length} bytes");
        }
        state.write(&file, &[&whole[..], b"x"].concat()).expect("longer");
        assert!(!Payloads::of_pack(name).open(&state));
        state.remove(&file).expect("gone");
        assert!(!Payloads::of_pack(name).open(&state));
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
