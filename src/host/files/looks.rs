//! Looking at many paths, one after the other: those that lie in one directory are looked at from one descriptor of it.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::AtFlags;

use super::hashed::Hashed;
use super::walk::{Parent, components};
use super::{Meta, hash, look_in, open_regular_in};
use crate::host::begun::Begun;
use crate::host::{Error, Memory, Reader};
use crate::model::Digest;

/// A look at many paths. What it says of one holds as if it were looked at alone.
#[derive(Debug)]
pub struct Looks<'r> {
    host: &'r Reader,
    hashed: Option<&'r Hashed>,
    near: Option<Near>,
    missing: Option<Missing>,
    buffer: Vec<u8>,
}

/// A directory on the last way that is not there: nothing is below it.
#[derive(Debug)]
struct Missing {
    /// As it is written, with a slash at its end.
    path: String,
    /// The same without the symbolic links on the way.
    real: String,
}

impl Missing {
    fn of((path, real): (&str, String)) -> Self {
        Self { path: format!("{path}/"), real: format!("{real}/") }
    }
}

/// Where the last path was.
#[derive(Debug)]
struct Near {
    /// Its directory, as it is written.
    directory: String,
    /// The same without the symbolic links on the way, where there were any.
    real: Option<String>,
    parent: Parent,
}

impl Reader {
    /// A look at many paths, which reads every content; what it reads is known after it.
    pub fn looks(&self) -> Looks<'_> {
        Looks { host: self, hashed: None, near: None, missing: None, buffer: Vec::new() }
    }

    /// The same, but that contents that are known are not read; all are where this view knows of none.
    pub fn looks_with_hashed(&self) -> Looks<'_> {
        Looks { hashed: self.memory.as_ref().map(|memory| &memory.files), ..self.looks() }
    }
}

impl Looks<'_> {
    /// As [`Reader::canonical`]; `None` where that is `path` itself.
    ///
    /// # Errors
    /// As that.
    pub fn canonical(&mut self, path: &str) -> Result<Option<String>, Error> {
        match self.parent(path)? {
            Some(parent) => Ok(parent.real.clone()),
            None => {
                let real = match self.below_missing(path) {
                    Some(real) => real,
                    None => self.host.canonical(path)?,
                };
                Ok(Some(real).filter(|real| real != path))
            }
        }
    }

    /// The name of `path` without the symbolic links on the way, where what was missing on the last way is on this, too.
    fn below_missing(&self, path: &str) -> Option<String> {
        let missing = self.missing.as_ref()?;
        Some(format!("{}{}", missing.real, path.strip_prefix(&missing.path)?))
    }

    /// As [`Reader::look`].
    ///
    /// # Errors
    /// As that.
    pub fn look(&mut self, path: &str) -> Result<Option<Meta>, Error> {
        self.parent(path)?.map_or(Ok(None), |parent| look_in(parent, path))
    }

    /// As [`Reader::read_link`].
    ///
    /// # Errors
    /// As that.
    pub fn read_link(&self, path: &str) -> Result<Option<String>, Error> {
        self.host.read_link(path)
    }

    /// SHA-256 of the regular file `path`, which was just seen as `meta` says, and what is told of the very file that was
    /// read, its length included; no digest where it is longer than `limit` bytes. It is read unless it is known. `None`
    /// where nothing is there any more. Leaves no trace.
    ///
    /// # Errors
    /// Where something else is there, it cannot be read, or an end is asked for (`interrupted`).
    pub fn digest(&mut self, path: &str, meta: &Meta, limit: u64) -> Result<Option<(Option<Digest>, Meta)>, Error> {
        let (host, hashed) = (self.host, self.hashed);
        if let Some(digest) = hashed.and_then(|hashed| hashed.of(path, meta)) {
            return Ok(Some((Some(digest), meta.clone())));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let Some(parent) = self.parent(path)? else { return Ok(None) };
        let begun = Begun::now();
        let Some((file, before)) = open_regular_in(parent, path)? else { return Ok(None) };
        let real = parent.real.clone();
        let (digest, size) = hash(host, &file, path, (before.size, limit), &mut buffer)?;
        self.buffer = buffer;
        // What was known of it, if it is found to be otherwise, is known no longer: else each pass would plan by it.
        if let Some(Memory { files, .. }) = &host.memory {
            match &digest {
                Some(digest) if Meta::of(file.as_fd(), "", AtFlags::EMPTY_PATH).is_ok_and(|after| after == before) => {
                    files.learn(path, file.as_fd(), &before, digest, begun);
                }
                _ => files.forget(Path::new(path)),
            }
        }
        Ok(Some((digest, Meta { size, real, ..before })))
    }

    /// The directory that `path` lies in; `None` where that is not there.
    fn parent(&mut self, path: &str) -> Result<Option<&Parent>, Error> {
        let (directory, name) = path.rsplit_once('/').unwrap_or((path, ""));
        match &mut self.near {
            Some(near) if near.directory == directory && is_name(path, name) => {
                if near.parent.name != name {
                    let real = near.real.as_ref().map(|real| format!("{real}/{name}"));
                    self.host.root.answers(real.as_deref().unwrap_or(path), path)?;
                    name.clone_into(&mut near.parent.name);
                    near.parent.real = real;
                }
            }
            // A path of another form is walked, which says what is wrong with it.
            _ if self.missing.as_ref().is_some_and(|it| path.starts_with(&it.path)) && components(path).is_ok() => {
                self.near = None;
            }
            _ => {
                self.near = None;
                let directory = directory.to_owned();
                let near = |parent: Parent| {
                    let above =
                        |real: &String| real.rsplit_once('/').map_or_else(String::new, |(above, _)| above.to_owned());
                    Near { directory, real: parent.real.as_ref().map(above), parent }
                };
                self.near = self.host.root.parent(path)?.map(near);
                self.missing = match self.near {
                    Some(_) => None,
                    None => self.host.reached(path).ok().map(Missing::of),
                };
            }
        }
        Ok(self.near.as_ref().map(|near| &near.parent))
    }
}

/// Whether the last component of `path`, `name`, may be one in a directory that was reached already; else
/// [`super::walk::components`] says what is wrong with it.
fn is_name(path: &str, name: &str) -> bool {
    path.len() <= 4096 && name.len() <= 255 && !matches!(name, "" | "." | "..") && !name.contains('\0')
}
