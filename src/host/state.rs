use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Digest as _;

use super::begun::Begun;
use super::documents::{Documents, Stands};
use crate::model::{Class, Digest};

/// What a state file may hold at most; ours stay far below.
const LIMIT: u64 = 1 << 30;

/// Documents that every pass reads, and that grow with what is managed.
const EACH_PASS: [&str; 2] = ["ledger", "revision"];

/// How the name of a file ends while it is written.
const STAGED: &str = ".new~";

/// Our own corner of the machine, `/var/lib/trueup`: root's alone, every write atomic and synced.
/// Names are relative, of our own making, at most one directory deep.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    /// What was read of it; none where everything is read.
    documents: Option<Documents>,
}

/// Our own directory cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} our state {}: {source}{}", path.display(), needs(source))]
pub struct StateError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StateError {
    /// The stable word for reports, and whether trying again may help.
    pub fn word(&self) -> (&'static str, Class) {
        match self.source.kind() {
            STRANGE => ("state-damaged", Class::Stalled),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ("disk-full", Class::Transient),
            io::ErrorKind::ReadOnlyFilesystem => ("read-only", Class::Transient),
            _ if LOOKS.contains(&self.doing) => ("cannot-tell", Class::Transient),
            _ => ("state-unwritable", Class::Transient),
        }
    }
}

/// What is tried when nothing is to be written.
const LOOKS: &[&str] = &["look at", "read", "list"];

/// Something else than a regular file stands where one of ours belongs: damage, not a failed look.
const STRANGE: io::ErrorKind = io::ErrorKind::InvalidData;

/// How much is read and written at once.
const BLOCK: usize = 64 << 10;

/// Takes what is written to it and compares it with what a file holds; nothing of it is kept. The first byte that differs
/// is an error.
struct Against<R>(BufReader<R>);

impl<R: Read> Write for Against<R> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let there = self.0.fill_buf()?;
        let n = there.len().min(part.len());
        if !part.is_empty() && (n == 0 || there[..n] != part[..n]) {
            return Err(io::Error::other("it is another one"));
        }
        self.0.consume(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file whose bytes are hashed as they are read.
struct Hashed<R>(R, sha2::Sha256);

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        self.1.update(&buffer[..n]);
        Ok(n)
    }
}

/// What would help.
fn needs(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { "; this needs root" } else { "" }
}

/// A state file cannot be looked at, or is there and cannot be believed, nor can its previous copy. Nothing may be
/// concluded from it, least of all that nothing is managed.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It could not be looked at: no permission, a failing disk, too many open files. It may well be whole, so its
    /// previous copy does not stand in.
    #[error(transparent)]
    CannotLook(#[from] StateError),
    /// The file and its previous copy are both damaged.
    #[error("our state {} is damaged ({why}), and so is its previous copy; restore it from a backup, or move it away to have everything adopted anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It was written by a newer trueup.
    #[error("our state {} has format {format}, which this trueup ({}) does not know; install the newer one again", path.display(), env!("CARGO_PKG_VERSION"))]
    FromTheFuture {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

/// A state document as read.
#[derive(Debug)]
pub struct Document<T> {
    /// What it holds.
    pub value: T,
    /// The file itself was damaged and this is its previous copy.
    pub recovered: bool,
}

/// The exclusive lock is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("another trueup is at work here{}; wait for it, or stop it", holder.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Held {
        /// Whose process, where it said so.
        holder: Option<u32>,
    },
    /// Our directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Held until dropped, or until the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] File);

impl StateDir {
    /// The directory `path`; nothing is made before something is written.
    pub fn new(path: PathBuf) -> Self {
        Self { path, documents: None }
    }

    /// The same directory, of which `documents` that are unchanged are not read again.
    #[must_use]
    pub fn with_documents(self, documents: Documents) -> Self {
        Self { documents: Some(documents), ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn error(&self, doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> StateError + use<> {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        move |source| StateError { doing, path, source }
    }

    /// Whether `name` is there.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn exists(&self, name: &str) -> Result<bool, StateError> {
        fs::exists(self.path.join(name)).map_err(self.error("look at", name))
    }

    /// The length of `name` in bytes; `None` where it is not there.
    ///
    /// # Errors
    /// Where that cannot be told, or it is no regular file.
    pub fn size(&self, name: &str) -> Result<Option<u64>, StateError> {
        match fs::symlink_metadata(self.path.join(name)) {
            Ok(meta) if meta.is_file() => Ok(Some(meta.size())),
            Ok(_) => Err(self.error("look at", name)(strange())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("look at", name)(error)),
        }
    }

    /// What `name` holds; `None` where it is not there.
    ///
    /// # Errors
    /// Where it is there and cannot be read, or is no regular file.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let Some((file, meta)) = self.open(name)? else { return Ok(None) };
        self.read_whole(&file, name, meta.size()).map(Some)
    }

    fn read_whole(&self, file: &File, name: &str, size: u64) -> Result<Vec<u8>, StateError> {
        let mut content = Vec::with_capacity(usize::try_from(size.min(LIMIT)).unwrap_or(0));
        file.take(LIMIT).read_to_end(&mut content).map_err(self.error("read", name))?;
        Ok(content)
    }

    /// The last `most` bytes of `name`, which somebody else may be writing; `None` where it is not there.
    ///
    /// # Errors
    /// Where it is there and cannot be read, or is no regular file.
    pub fn tail(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, StateError> {
        let Some((mut file, meta)) = self.open(name)? else { return Ok(None) };
        let mut content = Vec::new();
        let read = file.seek(SeekFrom::Start(meta.size().saturating_sub(most)));
        read.and_then(|_| file.take(most).read_to_end(&mut content)).map_err(self.error("read", name))?;
        Ok(Some(content))
    }

    /// Empties `name` where it is larger than `most` bytes. Whoever appends to it goes on at its beginning.
    ///
    /// # Errors
    /// Where it cannot be looked at or written.
    pub fn empty_beyond(&self, name: &str, most: u64) -> Result<(), StateError> {
        if self.size(name)?.is_some_and(|size| size > most) {
            let file = OpenOptions::new()
                .write(true)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
                .open(self.path.join(name));
            file.and_then(|file| file.set_len(0)).map_err(self.error("write", name))?;
        }
        Ok(())
    }

    /// `name`, to be read, and what it is; `None` where it is not there.
    pub(super) fn open(&self, name: &str) -> Result<Option<(File, fs::Metadata)>, StateError> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed())
            .open(self.path.join(name));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                // A symbolic link and a socket do not let themselves be opened.
                let other = fs::symlink_metadata(self.path.join(name)).is_ok_and(|meta| !meta.is_file());
                return Err(self.error("read", name)(if other { strange() } else { error }));
            }
        };
        let meta = file.metadata().map_err(self.error("read", name))?;
        if !meta.is_file() {
            return Err(self.error("read", name)(strange()));
        }
        Ok(Some((file, meta)))
    }

    /// Makes `name` hold `content`, the old or the new at every instant, and on disk when this returns.
    ///
    /// # Errors
    /// Where it cannot; the old content is then still there.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        self.write_pieces(name, [content])
    }

    /// The same of what these pieces are together, of which no copy in one piece is made.
    ///
    /// # Errors
    /// As [`StateDir::write`].
    pub fn write_pieces<'c>(&self, name: &str, pieces: impl IntoIterator<Item = &'c [u8]>) -> Result<(), StateError> {
        let all = |file: &mut dyn Write| -> io::Result<Result<(), std::convert::Infallible>> {
            pieces.into_iter().try_for_each(|piece| file.write_all(piece)).map(Ok)
        };
        self.write_with(name, all).map(|written| written.unwrap_or_else(|never| match never {}))
    }

    /// The same of what `fill` writes; where that has something against it what stood there stays, and nothing is left.
    ///
    /// # Errors
    /// As [`StateDir::write`].
    pub(super) fn write_with<T, E>(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<Result<T, E>>,
    ) -> Result<Result<T, E>, StateError> {
        let target = self.path.join(name);
        let parent = target.parent().unwrap_or(&self.path);
        self.make(parent).map_err(self.error("make the directory of", name))?;
        let staged = self.path.join(format!("{name}{STAGED}"));
        let write = || -> io::Result<Result<T, E>> {
            match fs::remove_file(&staged) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
            let mut file = BufWriter::with_capacity(BLOCK, file);
            let filled = match fill(&mut file)? {
                Ok(filled) => filled,
                Err(refused) => {
                    fs::remove_file(&staged)?;
                    return Ok(Err(refused));
                }
            };
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&staged, &target)?;
            File::open(parent)?.sync_all()?;
            Ok(Ok(filled))
        };
        write().map_err(|error| {
            drop(fs::remove_file(&staged));
            self.error("write", name)(error)
        })
    }

    /// Keeps a copy of the program `from`, which is ours; on disk when this returns. One that is there is as good unless
    /// `anew`. The unit that undoes runs it by its name.
    ///
    /// # Errors
    /// Where it cannot be read or written; the copy before then still stands.
    pub fn keep_program(&self, from: &Path, anew: bool) -> Result<(), StateError> {
        const NAME: &str = "trueup";
        let target = self.path.join(NAME);
        let staged = self.path.join(format!("{NAME}{STAGED}"));
        let keep = || -> io::Result<()> {
            let there = fs::symlink_metadata(&target).is_ok_and(|kept| kept.is_file() && kept.len() > 0);
            if there && !anew {
                return Ok(());
            }
            let mut program = File::open(from)?;
            let meta = program.metadata()?;
            let as_old = |kept: fs::Metadata| kept.len() == meta.len() && kept.modified().ok() == meta.modified().ok();
            if fs::symlink_metadata(&target).is_ok_and(|kept| kept.is_file() && as_old(kept)) {
                return Ok(());
            }
            match fs::remove_file(&staged) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&staged)?;
            io::copy(&mut program, &mut copy)?;
            copy.set_modified(meta.modified()?)?;
            copy.sync_all()?;
            fs::rename(&staged, &target)?;
            File::open(&self.path)?.sync_all()
        };
        keep().map_err(|error| {
            drop(fs::remove_file(&staged));
            self.error("keep this program in", NAME)(error)
        })
    }

    /// Reads the document `name`: one line of `trueup NAME FORMAT SHA256`, then JSON. Where it is damaged
    /// or missing its previous copy stands in.
    ///
    /// # Errors
    /// Where it cannot be looked at, or is there and neither it nor its previous copy can be believed.
    pub fn load<T>(&self, name: &str, format: u32) -> Result<Option<Document<T>>, DocumentError>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let own = |shared: Document<Arc<T>>| Document {
            value: Arc::unwrap_or_clone(shared.value),
            recovered: shared.recovered,
        };
        Ok(self.load_shared(name, format)?.map(own))
    }

    /// As [`StateDir::load`], for whoever only looks at it.
    ///
    /// # Errors
    /// As [`StateDir::load`].
    pub fn load_shared<T>(&self, name: &str, format: u32) -> Result<Option<Document<Arc<T>>>, DocumentError>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let previous = format!("{name}.previous");
        let damaged = match self.open_document(name, name, format) {
            Ok(Some(value)) => return Ok(Some(Document { value, recovered: false })),
            // Saving moves the file to its previous copy before the new one takes its name.
            Ok(None) => None,
            Err(Bad::Future(format)) => {
                return Err(DocumentError::FromTheFuture { path: self.path.join(name), format });
            }
            Err(Bad::Unseen(error)) => return Err(error.into()),
            Err(Bad::Damaged(why)) => Some(why),
        };
        match (self.open_document(&previous, name, format), damaged) {
            (Ok(Some(value)), _) => Ok(Some(Document { value, recovered: true })),
            (Err(Bad::Future(format)), _) => {
                Err(DocumentError::FromTheFuture { path: self.path.join(previous), format })
            }
            (Err(Bad::Unseen(error)), _) => Err(error.into()),
            (Ok(None), None) => Ok(None),
            (Ok(None), Some(why)) | (Err(Bad::Damaged(why)), _) => {
                Err(DocumentError::Damaged { path: self.path.join(name), why })
            }
        }
    }

    /// Writes the document `name` as [`StateDir::load`] reads it, and keeps the one before. One that stands there
    /// already to the byte is not written again.
    ///
    /// # Errors
    /// Where it cannot be written; the old one then still stands.
    pub fn save<T: Serialize>(&self, name: &str, format: u32, value: &T) -> Result<(), StateError> {
        let head = |digest: Digest| format!("trueup {name} {format} {digest}\n").into_bytes();
        if self.stands(name, head, value) {
            return Ok(());
        }
        // The checksum, which is always as long, takes its place in the first line once it is known.
        let mut document = head(Digest::from_bytes([0; 32]));
        let start = document.len();
        serde_json::to_writer(&mut document, value)
            .map_err(|error| self.error("write", name)(io::Error::other(error)))?;
        let head = head(Digest::of(&document[start..]));
        document[..start].copy_from_slice(&head);
        let (current, previous) = (self.path.join(name), self.path.join(format!("{name}.previous")));
        // Only a document that can be believed may become the previous copy.
        if matches!(self.open_document::<serde::de::IgnoredAny>(name, name, format), Ok(Some(_))) {
            self.remove(&format!("{name}.previous"))?;
            fs::hard_link(current, previous).map_err(self.error("keep the previous copy of", name))?;
        }
        self.write(name, &document)
    }

    /// Whether the document `name` is `value` to the byte, with the first line that `head` makes of its checksum.
    fn stands(&self, name: &str, head: impl Fn(Digest) -> Vec<u8>, value: &impl Serialize) -> bool {
        let Ok(Some((mut file, _))) = self.open(name) else { return false };
        let mut line = head(Digest::from_bytes([0; 32]));
        if file.read_exact(&mut line).is_err() {
            return false;
        }
        let mut against = Against(BufReader::with_capacity(BLOCK, Hashed(file, sha2::Sha256::new())));
        let same =
            serde_json::to_writer(&mut against, value).is_ok() && against.0.fill_buf().is_ok_and(<[u8]>::is_empty);
        same && line == head(Digest::from_bytes(against.0.into_inner().1.finalize().into()))
    }

    fn open_document<T>(&self, file: &str, name: &str, format: u32) -> Result<Option<Arc<T>>, Bad>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let damaged = |why: &str| Bad::Damaged(why.to_owned());
        let unseen = |error: StateError| match error.source.kind() {
            STRANGE => Bad::Damaged(error.source.to_string()),
            _ => Bad::Unseen(error),
        };
        let begun = Begun::now();
        let Some((opened, meta)) = self.open(file).map_err(unseen)? else { return Ok(None) };
        let stands = Stands::of(&meta);
        // Others are read seldom, and would only lie in memory.
        let documents = self.documents.as_ref().filter(|_| EACH_PASS.contains(&file));
        if let Some(known) = documents.and_then(|documents| documents.get(file, stands)) {
            return Ok(Some(known));
        }
        let document = self.read_whole(&opened, file, meta.size()).map_err(unseen)?;
        let line = document.iter().position(|&b| b == b'\n').ok_or_else(|| damaged("it has no first line"))?;
        let (head, json) = (&document[..line], &document[line + 1..]);
        let head = std::str::from_utf8(head).map_err(|_| damaged("its first line is not text"))?;
        let rest = head.strip_prefix("trueup ").and_then(|rest| rest.strip_prefix(name)?.strip_prefix(' '));
        let (written, digest) =
            rest.and_then(|rest| rest.split_once(' ')).ok_or_else(|| damaged("its first line is not ours"))?;
        let written: u32 = written.parse().map_err(|_| damaged("its first line is not ours"))?;
        if Digest::of(json).to_string() != digest {
            return Err(damaged("its checksum does not match"));
        }
        if written > format {
            return Err(Bad::Future(written));
        }
        let value: T = serde_json::from_slice(json).map_err(|error| Bad::Damaged(error.to_string()))?;
        let value = Arc::new(value);
        if let Some(documents) = documents
            && opened.metadata().is_ok_and(|after| Stands::of(&after) == stands)
        {
            documents.put(file, stands, &value, begun);
        }
        Ok(Some(value))
    }

    /// Removes `name`, where it is there.
    ///
    /// # Errors
    /// Where it is there and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("remove", name)(error)),
            _ => Ok(()),
        }
    }

    /// The names in the directory `name`, sorted; none where it is not there.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn list(&self, name: &str) -> Result<Vec<String>, StateError> {
        let entries = match fs::read_dir(self.path.join(name)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.error("list", name)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(self.error("list", name))?;
            // Names of our own making are ASCII; others are not ours to touch.
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    /// A directory of ours, made where it is missing, for what keeps files of its own there.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.path.join(name);
        self.make(&path).map_err(self.error("make", name))?;
        Ok(path)
    }

    /// Takes the exclusive lock, without waiting.
    ///
    /// # Errors
    /// Where somebody else holds it or it cannot be made.
    pub fn lock(&self) -> Result<Lock, LockError> {
        self.make(&self.path).map_err(self.error("make", ""))?;
        let name = "lock";
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(self.path.join(name))
            .map_err(self.error("open", name))?;
        // A process that is just being started has the descriptors of the one that starts it, for an instant.
        for last in (0..20).map(|attempt| attempt == 19) {
            match file.try_lock() {
                Ok(()) => {
                    self.sweep()?;
                    return Ok(Lock(file));
                }
                Err(fs::TryLockError::WouldBlock) if !last => thread::sleep(Duration::from_millis(10)),
                Err(fs::TryLockError::WouldBlock) => break,
                Err(fs::TryLockError::Error(error)) => return Err(self.error("lock", name)(error).into()),
            }
        }
        Err(LockError::Held { holder: holder(&file) })
    }

    /// Removes what a write that was cut short left behind. Only whoever has the lock writes here.
    fn sweep(&self) -> Result<(), StateError> {
        for directory in ["", "payloads", "kept"] {
            for name in self.list(directory)?.iter().filter(|name| name.ends_with(STAGED)) {
                self.remove(format!("{directory}/{name}").trim_start_matches('/'))?;
            }
        }
        Ok(())
    }

    fn make(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(above) = self.path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        if let Some(above) = path.parent() {
            File::open(above)?.sync_all()?;
        }
        Ok(())
    }
}

/// Why a document cannot be believed, or not be looked at.
enum Bad {
    Damaged(String),
    Future(u32),
    Unseen(StateError),
}

fn strange() -> io::Error {
    io::Error::new(STRANGE, "not a regular file")
}

/// Which process holds the lock on `file`, as far as it can be told.
fn holder(file: &File) -> Option<u32> {
    super::vitals::lock_holder(file.metadata().ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::new(directory.path().join("state"));
        (directory, state)
    }

    #[test]
    fn a_document_comes_back_and_a_damaged_one_is_replaced_by_the_one_before() {
        let (_directory, state) = scratch();
        assert!(state.load::<u32>("n", 1).expect("missing is no error").is_none());
        state.save("n", 1, &1u32).expect("saved");
        state.save("n", 1, &2u32).expect("saved");
        let read = state.load::<u32>("n", 1).expect("read").expect("there");
        assert_eq!((read.value, read.recovered), (2, false));
        for damage in [&b""[..], b"trueup n 1 00\n2", b"\xff\n", b"trueup n"] {
            fs::write(state.path().join("n"), damage).expect("damaged");
            let read = state.load::<u32>("n", 1).expect("read").expect("there");
            assert_eq!((read.value, read.recovered), (1, true));
        }
    }

    #[test]
    fn what_was_read_is_read_again_only_where_its_file_is_not_as_it_was() {
        let (_directory, plain) = scratch();
        let documents = Documents::default();
        let state = plain.clone().with_documents(documents.clone());
        let stands = |name| Stands::of(&fs::symlink_metadata(state.path().join(name)).expect("there"));
        let read = |name| state.load::<u32>(name, 1).expect("read").expect("there").value;
        for name in ["ledger", "other"] {
            state.save(name, 1, &1u32).expect("saved");
            assert_eq!(read(name), 1);
            assert_eq!(documents.get::<u32>(name, stands(name)), None, "it was written just now: it is not kept");
            documents.insert(name, stands(name), Arc::new(8u32), Begun::now());
        }
        assert_eq!((read("ledger"), read("other")), (8, 1), "only what every pass reads is remembered");
        assert_eq!(plain.load::<u32>("ledger", 1).expect("read").expect("there").value, 1, "without memory it is read");
        state.save("ledger", 1, &2u32).expect("saved");
        assert_eq!(read("ledger"), 2, "another file stands there");
        fs::write(state.path().join("ledger"), b"half").expect("damaged");
        assert!(state.load::<u32>("ledger", 1).expect("read").expect("there").recovered, "damage is seen");
    }

    #[test]
    fn what_stands_there_already_is_not_written_again() {
        let (_directory, state) = scratch();
        state.save("n", 1, &1u32).expect("saved");
        state.save("n", 1, &2u32).expect("saved");
        let inodes = || ["n", "n.previous"].map(|name| fs::metadata(state.path().join(name)).expect("there").ino());
        let before = inodes();
        state.save("n", 1, &2u32).expect("nothing to do");
        assert_eq!(inodes(), before);
        state.save("n", 1, &3u32).expect("saved");
        assert_ne!(inodes(), before);
    }

    #[test]
    fn a_document_that_is_read_in_pieces_is_compared_to_its_last_byte() {
        let (_directory, state) = scratch();
        let long = |end: &str| format!("{}{end}", "n".repeat(200_000));
        state.save("n", 1, &long("a")).expect("saved");
        let inode = || fs::metadata(state.path().join("n")).expect("there").ino();
        let before = inode();
        state.save("n", 1, &long("a")).expect("nothing to do");
        assert_eq!(inode(), before);
        let path = state.path().join("n");
        let mut bytes = fs::read(&path).expect("there");
        let last = bytes.len() - 2;
        bytes[last] = b'b';
        fs::write(&path, bytes).expect("damaged");
        state.save("n", 1, &long("a")).expect("saved");
        assert_ne!(inode(), before, "what is damaged is written anew");
        for (damage, at) in [("shorter", None), ("longer", None), ("another checksum", Some(20))] {
            let mut bytes = fs::read(&path).expect("there");
            match (damage, at) {
                ("shorter", _) => drop(bytes.pop()),
                ("longer", _) => bytes.push(b'"'),
                (_, at) => bytes[at.expect("where")] ^= 1,
            }
            fs::write(&path, bytes).expect("damaged");
            let before = inode();
            state.save("n", 1, &long("a")).expect("saved");
            assert_ne!(inode(), before, "{damage}");
        }
        let before = inode();
        state.save("n", 1, &long("a")).expect("nothing to do");
        assert_eq!(inode(), before);
    }

    #[test]
    fn of_a_log_that_grows_only_the_end_is_read_and_it_is_emptied_while_it_is_appended_to() {
        let (_directory, state) = scratch();
        assert_eq!(state.tail("log", 4).expect("missing is no error"), None);
        state.write("log", b"").expect("made");
        let mut log = OpenOptions::new().append(true).open(state.path().join("log")).expect("opened");
        log.write_all(b"0123456789").expect("written");
        let tail = |most| state.tail("log", most).expect("read").expect("there");
        assert_eq!((tail(4), tail(10), tail(99)), (b"6789".to_vec(), b"0123456789".to_vec(), b"0123456789".to_vec()));
        // A terabyte that takes no room on the disk: nobody could read it whole.
        log.set_len(1 << 40).expect("sparse");
        assert_eq!(tail(4), [0; 4]);
        state.empty_beyond("log", 1 << 40).expect("not beyond");
        assert_eq!(state.size("log").expect("there"), Some(1 << 40));
        state.empty_beyond("log", 99).expect("emptied");
        log.write_all(b"and on").expect("written");
        assert_eq!(tail(99), b"and on");
    }

    #[test]
    fn a_damaged_document_never_becomes_the_previous_copy() {
        let (_directory, state) = scratch();
        state.save("n", 1, &1u32).expect("saved");
        state.save("n", 1, &2u32).expect("saved");
        fs::write(state.path().join("n"), b"half").expect("damaged");
        state.save("n", 1, &3u32).expect("saved");
        fs::write(state.path().join("n"), b"half").expect("damaged");
        assert_eq!(state.load::<u32>("n", 1).expect("read").expect("there").value, 1);
    }

    #[test]
    fn damage_to_both_copies_and_a_newer_format_are_errors_never_absence() {
        let (_directory, state) = scratch();
        state.save("n", 1, &1u32).expect("saved");
        state.save("n", 2, &2u32).expect("saved");
        assert!(matches!(state.load::<u32>("n", 1), Err(DocumentError::FromTheFuture { format: 2, .. })));
        fs::write(state.path().join("n"), b"").expect("damaged");
        fs::remove_file(state.path().join("n.previous")).expect("removed");
        assert!(matches!(state.load::<u32>("n", 1), Err(DocumentError::Damaged { .. })));
        fs::remove_file(state.path().join("n")).expect("removed");
        fs::create_dir(state.path().join("n")).expect("made");
        assert!(matches!(state.load::<u32>("n", 1), Err(DocumentError::Damaged { .. })));
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_damaged() {
        let (_directory, state) = scratch();
        fs::write(state.path(), b"").expect("a file where the directory should be");
        let Err(DocumentError::CannotLook(error)) = state.load::<u32>("n", 1) else { panic!("it was looked at") };
        assert_eq!(error.word(), ("cannot-tell", Class::Transient));
        fs::remove_file(state.path()).expect("removed");

        state.save("n", 1, &1u32).expect("saved");
        fs::rename(state.path().join("n"), state.path().join("n.previous")).expect("moved");
        std::os::unix::fs::symlink("n.previous", state.path().join("n")).expect("made");
        assert!(state.load::<u32>("n", 1).expect("a link is damage").expect("there").recovered);
        assert_eq!(state.size("n").expect_err("a link").word().0, "state-damaged");
    }

    #[test]
    fn permission_is_what_root_has() {
        let denied = |doing| StateError { doing, path: "/s".into(), source: io::ErrorKind::PermissionDenied.into() };
        assert_eq!(denied("read").to_string(), "cannot read our state /s: permission denied; this needs root");
        assert_eq!((denied("read").word().0, denied("make").word().0), ("cannot-tell", "state-unwritable"));
    }

    #[test]
    fn a_disk_that_is_full_or_read_only_is_said_to_be() {
        for (errno, word) in [
            (rustix::io::Errno::NOSPC, "disk-full"),
            (rustix::io::Errno::DQUOT, "disk-full"),
            (rustix::io::Errno::ROFS, "read-only"),
            (rustix::io::Errno::IO, "state-unwritable"),
        ] {
            let error = StateError { doing: "write", path: "/s".into(), source: errno.into() };
            assert_eq!(error.word(), (word, Class::Transient));
        }
    }

    #[test]
    fn the_lock_is_held_by_one() {
        let (_directory, state) = scratch();
        let held = state.lock().expect("free");
        let Err(LockError::Held { holder }) = state.lock() else { panic!("locked twice") };
        assert_eq!(holder, Some(std::process::id()));
        drop(held);
        state.lock().expect("free again");
    }
}
