//! Copies of what is about to be overwritten: read and written as a stream, however long it is.

use std::fs::File;
use std::io::{self, Read, Write};

use sha2::Digest as _;

use super::{Error, Reader, StateError, kept_name};
use crate::model::Digest;

/// How much is read at once.
const BLOCK: usize = 64 << 10;

/// Why a copy is none: the outer error is of our own directory.
type Kept = Result<Result<u64, Error>, StateError>;

impl Reader {
    /// Has a copy of the regular file `path`, which was seen to hold `digest`, in our own directory, where [`kept_name`]
    /// says; its length. One that is there and whole is not written again.
    ///
    /// # Errors
    /// Where our own directory cannot be written; inside, where the file cannot be read, is no longer what it was
    /// (`stale`), or is longer than `limit` bytes (`too-large`).
    pub fn keep(&self, path: &str, digest: &Digest, limit: u64) -> Kept {
        let stale = || Error::Refused {
            thing: path.to_owned(),
            reason: "stale",
            why: "it was changed by somebody else just now; looked at again in the next pass".to_owned(),
        };
        let (state, name) = (self.state(), kept_name(digest));
        let mut file = match self.open_regular(path) {
            Ok(Some((file, _))) => file,
            Ok(None) => return Ok(Err(stale())),
            Err(error) => return Ok(Err(error)),
        };
        let mut copy = |to: &mut dyn Write| -> io::Result<Result<u64, Error>> {
            let (found, length) = match copied(&mut file, to, limit)? {
                Ok(Some(copied)) => copied,
                Ok(None) => {
                    let why = format!("it is longer than {limit} B");
                    return Ok(Err(Error::Refused { thing: path.to_owned(), reason: "too-large", why }));
                }
                Err(source) => return Ok(Err(Error::Io { doing: "read", path: path.into(), source })),
            };
            if found == *digest {
                return Ok(Ok(length));
            }
            // What was known of it is not so: else each pass would plan by it.
            self.forget(path);
            Ok(Err(stale()))
        };
        // One that a failing disk has damaged is written anew.
        let there = state.open(&name).ok().flatten();
        let whole = there.is_some_and(|(mut there, _)| {
            matches!(copied(&mut there, &mut io::sink(), limit), Ok(Ok(Some((found, _)))) if found == *digest)
        });
        match whole {
            false => state.write_with(&name, copy),
            true => Ok(copy(&mut io::sink()).expect("nothing is written")),
        }
    }
}

/// Digest and length of all of `from`, which goes to `to`; `None` where it is longer than `limit`. The inner error is of
/// `from`, the outer one of `to`.
fn copied(from: &mut File, to: &mut dyn Write, limit: u64) -> io::Result<io::Result<Option<(Digest, u64)>>> {
    let (mut block, mut length, mut hash) = (vec![0; BLOCK], 0, sha2::Sha256::new());
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(Ok(Some((Digest::from_bytes(hash.finalize().into()), length)))),
            Ok(n) => {
                length += n as u64;
                if length > limit {
                    return Ok(Ok(None));
                }
                hash.update(&block[..n]);
                to.write_all(&block[..n])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make what is kept")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_copy_is_of_what_was_seen_and_no_longer_than_it_may_be() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let host = Reader::directory(root.path()).expect("opens");
        let content = "longer than a block\n".repeat(10_000);
        let (digest, length) = (Digest::of(content.as_bytes()), content.len() as u64);
        fs::write(root.path().join("x"), &content).expect("written");
        let (state, name) = (host.state(), kept_name(&digest));
        let keep = |digest: &Digest, limit| {
            host.keep("/x", digest, limit).expect("our own directory is there").map_err(|error| error.reason())
        };
        assert_eq!(keep(&digest, length - 1), Err("too-large"));
        assert_eq!(keep(&Digest::of(b"another"), length), Err("stale"));
        assert_eq!(state.list("kept").expect("listed"), [""; 0], "nothing is left of those");
        // The first copy, one that is there, and one that a disk has damaged.
        for damage in [None, None, Some(&content[1..])] {
            if let Some(damage) = damage {
                state.write(&name, damage.as_bytes()).expect("damaged");
            }
            assert_eq!(keep(&digest, length), Ok(length));
            assert_eq!(state.read(&name).expect("read").expect("there"), content.as_bytes());
        }
        fs::remove_file(root.path().join("x")).expect("removed");
        assert_eq!(keep(&digest, length), Err("stale"));
    }
}
