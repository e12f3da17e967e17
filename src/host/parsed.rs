//! Files of the system that every pass reads: read again only where they were changed.

use std::sync::Arc;

use super::begun::Begun;
use super::documents::Stands;
use super::{Error, Meta, Reader};

impl Reader {
    /// What `parse` makes of the file `path`: as it was made before, where that is known and the file is the same,
    /// unchanged. `None` where nothing is there.
    ///
    /// # Errors
    /// As [`Reader::read`]; inside, what `parse` finds wrong, which is found again by whoever asks again.
    pub fn read_parsed<T, E>(
        &self,
        path: &str,
        limit: u64,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Option<Result<Arc<T>, E>>, Error>
    where
        T: Send + Sync + 'static,
    {
        let documents = self.memory.as_ref().map(|memory| &memory.documents);
        if let Some(documents) = documents {
            let Some(meta) = self.look(path)? else { return Ok(None) };
            if let Some(known) = documents.get(path, Stands::of_meta(&meta)) {
                return Ok(Some(Ok(known)));
            }
        }
        let begun = Begun::now();
        let Some((content, before)) = self.read_told(path, limit)? else { return Ok(None) };
        let value = match parse(&content) {
            Ok(value) => Arc::new(value),
            Err(wrong) => return Ok(Some(Err(wrong))),
        };
        if let Some(documents) = documents {
            let before = Stands::of_meta(&before);
            // One that was changed while it was read is not known.
            match self.look(path) {
                Ok(Some(after)) if Stands::of_meta(&after) == before => documents.put(path, before, &value, begun),
                _ => documents.forget(path),
            }
        }
        Ok(Some(Ok(value)))
    }

    /// What `make` finds of something that is written down in a file that was just seen as `meta` says: as it was found
    /// before, under this `name`, where that is known and the file is the same, unchanged.
    ///
    /// # Errors
    /// As `make`; that is not remembered.
    pub fn found_in<T, E>(&self, name: &str, meta: &Meta, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E>
    where
        T: Send + Sync + 'static,
    {
        let documents = self.memory.as_ref().map(|memory| &memory.documents);
        let stands = Stands::of_meta(meta);
        if let Some(known) = documents.and_then(|documents| documents.get(name, stands)) {
            return Ok(known);
        }
        let begun = Begun::now();
        let value = Arc::new(make()?);
        // What is written meanwhile is another file by the next time.
        if let Some(documents) = documents {
            documents.put(name, stands, &value, begun);
        }
        Ok(value)
    }

    /// What was found under this `name` is found anew by whoever asks next.
    pub fn forget_found(&self, name: &str) {
        if let Some(memory) = &self.memory {
            memory.documents.forget(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::host::Memory;

    #[test]
    fn what_was_found_in_a_file_holds_as_long_as_that_is_the_same() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let reader = Reader::directory(root.path()).expect("a directory").with_memory(Memory::default());
        let meta = |changed: i128| {
            let meta = reader.look("/").expect("told").expect("there");
            Meta { changed: meta.changed - changed * 1_000_000_000, ..meta }
        };
        let find = |meta: &Meta, found: Result<u32, ()>| reader.found_in("n", meta, || found).map(|found| *found);
        let settled = meta(60);
        assert_eq!(find(&settled, Err(())), Err(()), "nothing is known");
        assert_eq!(find(&settled, Ok(1)), Ok(1));
        assert_eq!(find(&settled, Err(())), Ok(1), "it is known");
        assert_eq!(find(&Meta { size: 1, ..meta(60) }, Ok(2)), Ok(2), "the file is another one");
        assert_eq!(find(&meta(0), Ok(3)), Ok(3), "and was changed just now");
        assert_eq!(find(&meta(0), Ok(4)), Ok(4), "so it is not known for how long that holds");
    }

    #[test]
    fn what_is_unchanged_is_parsed_once() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let file = root.path().join("status");
        let memory = Memory::default();
        let read = |expected: Option<&str>| {
            let reader = Reader::directory(root.path()).expect("a directory").with_memory(memory.clone());
            let parse = |content: &[u8]| match expected {
                Some(expected) if content == expected.as_bytes() => Ok(expected.to_owned()),
                Some(_) => Err("another content"),
                None => Err("parsed again"),
            };
            let read = reader.read_parsed("/status", 1 << 10, parse).expect("told");
            read.map(|read| read.map(|text| text.as_str().to_owned()))
        };
        assert_eq!(read(None), None, "nothing is there");
        fs::write(&file, "one").expect("written");
        assert_eq!(read(Some("one")), Some(Ok("one".to_owned())));
        // It was written just now, and may be written once more within the same tick of a coarse clock.
        assert_eq!(read(None), Some(Err("parsed again")));

        // What was changed long ago is known: by its own times, which nobody but the clock can move back.
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(long_ago)).expect("set");
        let stands = |reader: &Reader| Stands::of_meta(&reader.look("/status").expect("told").expect("there"));
        let reader = Reader::directory(root.path()).expect("a directory");
        memory.documents.insert("/status", stands(&reader), Arc::new("one".to_owned()), Begun::now());
        assert_eq!(read(None), Some(Ok("one".to_owned())));
        fs::write(&file, "two").expect("written");
        assert_eq!(read(Some("two")), Some(Ok("two".to_owned())), "it was changed");
        fs::remove_file(&file).expect("removed");
        assert_eq!(read(None), None);
    }
}
