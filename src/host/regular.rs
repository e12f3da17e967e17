use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Error;

/// Opens the regular file at `path`, which may be reached by links, for reading. Nothing else is: the open of a named pipe would
/// wait for whoever writes to it, fifo(7), and a device may have no end.
///
/// # Errors
/// Where it cannot be opened, or is something else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let strange = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        // A socket does not let itself be opened, open(2).
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => return Err(strange()),
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(strange()) }
}

/// What the regular file at `path` holds, which is `most` bytes at most.
///
/// # Errors
/// Where it cannot be read, is something else, or has more.
pub fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let read = || -> io::Result<Vec<u8>> {
        let file = open_regular(path)?;
        // All at once: what grows leaves copies of itself behind.
        let size = file.metadata()?.len().min(most);
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(most + 1).read_to_end(&mut content)?;
        match content.len() as u64 <= most {
            true => Ok(content),
            false => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes"))),
        }
    };
    read().map_err(|source| Error::Io { doing: "read", path: path.to_owned(), source })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay out what is read")]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn nobody_waits_for_a_pipe_and_only_a_file_is_read() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let at = |name: &str| scratch.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("made");
        let _socket = UnixListener::bind(at("socket")).expect("made");
        std::os::unix::fs::symlink(at("pipe"), at("to-pipe")).expect("made");
        for strange in [at("pipe"), at("to-pipe"), at("socket"), scratch.path().to_owned(), "/dev/zero".into()] {
            let error = open_regular(&strange).expect_err("no file");
            assert_eq!(error.to_string(), "it is not a regular file", "{}", strange.display());
        }
        assert_eq!(open_regular(&at("none")).expect_err("nothing").kind(), io::ErrorKind::NotFound);
        fs::write(at("file"), "four").expect("written");
        std::os::unix::fs::symlink(at("file"), at("to-file")).expect("made");
        assert_eq!(read_regular(&at("to-file"), 4).expect("read"), b"four");
        let long = read_regular(&at("file"), 3).expect_err("one byte more").chain();
        assert!(long.ends_with("file: it has more than 3 bytes"), "{long}");
    }
}
