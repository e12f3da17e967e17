use std::collections::BTreeMap;
use std::sync::Arc;

use super::protected::{self, Shape};
use super::{KEEP, What};
use crate::host::{Error, Looks, Meta, NodeType, Reader, Users};
use crate::model::Digest;

/// What a look at a path found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Nothing.
    Absent,
    /// Nothing, at a path that goes by symbolic links.
    AbsentBehind {
        /// The path without them.
        real: String,
    },
    /// Something.
    Present(Present),
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Its type and content.
    pub what: Standing,
    /// Its owner; `None` where owners cannot be told or set, so that none is wrong.
    pub owner: Option<Owner>,
    /// Its group; `None` as for the owner.
    pub group: Option<Owner>,
    /// Permission bits, `0o7777` at most; those of a symbolic link mean nothing.
    pub mode: u32,
    /// How many names a regular file has; 1 of everything else.
    pub links: u32,
    /// Something is mounted here.
    pub mount_point: bool,
    /// The path without the symbolic links on the way, where there were any.
    pub real: Option<String>,
}

/// Type and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// A regular file.
    Regular {
        /// SHA-256 of its content.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// A regular file that is too long to be looked into; no content that can be declared is as long.
    Large {
        /// Its length in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: String,
    },
    /// A device, fifo or socket.
    Other(NodeType),
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub id: u32,
    /// Every name it is known by, the usual one first; none where nobody knows it.
    pub names: Arc<[String]>,
}

impl Owner {
    /// Whether a declaration that says `wanted`, a name or a number, means this one.
    pub fn is(&self, wanted: &str) -> bool {
        if wanted.bytes().all(|byte| byte.is_ascii_digit()) {
            return wanted.parse() == Ok(self.id);
        }
        self.names.iter().any(|name| name == wanted)
    }

    /// How to call it.
    pub fn name(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| self.id.to_string())
    }
}

impl Standing {
    /// With its article: `a symbolic link`.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Regular { .. } | Self::Large { .. } => NodeType::Regular.describe(),
            Self::Directory => NodeType::Directory.describe(),
            Self::Symlink { .. } => NodeType::Symlink.describe(),
            Self::Other(node) => node.describe(),
        }
    }
}

impl Observed {
    /// Nothing is there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent | Self::AbsentBehind { .. })
    }

    /// The path without the symbolic links on the way, where there were any.
    pub fn real(&self) -> Option<&str> {
        match self {
            Self::Absent => None,
            Self::AbsentBehind { real } => Some(real),
            Self::Present(Present { real, .. }) => real.as_deref(),
        }
    }

    /// Whether nothing happened between two looks. Names do not count: a user who was made in between changed no file,
    /// and other names of it come and go where they are: with this very pass, where they are declared, too.
    pub(super) fn unchanged(&self, later: &Self) -> bool {
        let id = |owner: &Option<Owner>| owner.as_ref().map(|owner| owner.id);
        match (self, later) {
            (Self::Present(a), Self::Present(b)) => {
                (&a.what, id(&a.owner), id(&a.group), a.mode, a.mount_point, &a.real)
                    == (&b.what, id(&b.owner), id(&b.group), b.mode, b.mount_point, &b.real)
            }
            _ => self.is_absent() && later.is_absent(),
        }
    }
}

/// Whether what stands there is of the type that `want` makes; `None` where that makes nothing of its own.
pub fn is_like(want: &What, seen: &Observed) -> Option<bool> {
    let Observed::Present(Present { what, .. }) = seen else { return None };
    match want {
        What::Regular { .. } | What::Sealed { .. } => {
            Some(matches!(what, Standing::Regular { .. } | Standing::Large { .. }))
        }
        What::Directory | What::Tree { .. } => Some(*what == Standing::Directory),
        What::Symlink { .. } => Some(matches!(what, Standing::Symlink { .. })),
        What::Absent | What::Attributes => None,
    }
}

/// Looks at each path.
pub(super) fn observe(host: &Reader, names: &[&str]) -> Vec<Result<Observed, Error>> {
    match host.users() {
        Ok(users) => {
            let (mut looks, users) = (host.looks_with_hashed(), owners(host, &users));
            let found = names.iter().map(|path| named(&mut looks, users, path)).collect();
            one_name_each(names, found)
        }
        Err(error) => {
            let why = error.chain();
            names.iter().map(|path| Err(Error::Unknown { thing: (*path).to_owned(), why: why.clone() })).collect()
        }
    }
}

/// What a look found, and the name of the path without the symbolic links on the way, where there were any.
type Named = Result<(Observed, Option<String>), Error>;

/// Of one thing only one name is managed: the first of those that are its real one, else the first.
fn one_name_each(names: &[&str], found: Vec<Named>) -> Vec<Result<Observed, Error>> {
    if found.iter().all(|found| matches!(found, Ok((_, None)) | Err(_))) {
        return found.into_iter().map(|found| found.map(|(seen, _)| seen)).collect();
    }
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for own in [true, false] {
        for (path, found) in names.iter().zip(&found) {
            if let Ok((_, real)) = found
                && real.is_none() == own
            {
                known.entry(real.as_deref().unwrap_or(path)).or_insert(path);
            }
        }
    }
    let other: Vec<Option<&str>> = names
        .iter()
        .zip(&found)
        .map(|(path, found)| {
            let (_, real) = found.as_ref().ok()?;
            known.get(real.as_deref().unwrap_or(path)).copied().filter(|other| other != path)
        })
        .collect();
    let judge = |((path, found), other): ((&&str, Named), Option<&str>)| {
        let (seen, _) = found?;
        match other {
            Some(other) => Err(Error::Refused {
                thing: (*path).to_owned(),
                reason: "two-names",
                why: format!(
                    "symbolic links on the way make it another name of {other}, which is managed too; \
                     declare one of them (`trueup release` lets go of what is no longer declared)"
                ),
            }),
            None => Ok(seen),
        }
    };
    names.iter().zip(found).zip(other).map(judge).collect()
}

/// Looks at one path, and tells its name without the symbolic links on the way. What that name protects from
/// being reached, whatever is wanted, is not looked at.
fn named(looks: &mut Looks<'_>, users: Option<&Users>, path: &str) -> Named {
    let real = reached(looks.canonical(path))?.flatten();
    let name = real.as_deref().unwrap_or(path);
    protected::refuse(path, name, Shape::Attributes)?;
    let seen = seen(looks, users, path)?;
    if seen.is_absent() {
        protected::refuse(path, name, Shape::Other)?;
    }
    let seen = match &real {
        Some(real) if seen.is_absent() => Observed::AbsentBehind { real: real.clone() },
        _ => seen,
    };
    Ok((seen, real))
}

/// The name of `path` without the symbolic links on the way.
pub(super) fn resolved(host: &Reader, path: &str) -> Result<String, Error> {
    Ok(reached(host.canonical(path))?.unwrap_or_else(|| path.to_owned()))
}

fn reached<T>(canonical: Result<T, Error>) -> Result<Option<T>, Error> {
    match canonical {
        Ok(canonical) => Ok(Some(canonical)),
        // Where a file stands on the way nothing can stand behind it.
        Err(Error::InTheWay { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks at one path.
pub(super) fn look(host: &Reader, users: &Users, path: &str) -> Result<Observed, Error> {
    seen(&mut host.looks(), owners(host, users), path)
}

/// Who knows the owners; nobody where owners cannot be told.
fn owners<'u>(host: &Reader, users: &'u Users) -> Option<&'u Users> {
    (host.can_own() && host.has_users()).then_some(users)
}

fn seen(looks: &mut Looks<'_>, users: Option<&Users>, path: &str) -> Result<Observed, Error> {
    let meta = match looks.look(path) {
        Ok(Some(meta)) => meta,
        // Where a file stands on the way nothing can stand behind it; writing there says what is in the way.
        Ok(None) | Err(Error::InTheWay { .. }) => return Ok(Observed::Absent),
        Err(error) => return Err(error),
    };
    let Some((what, meta)) = standing(looks, path, meta)? else { return Ok(Observed::Absent) };
    let (owner, group) = match users {
        Some(users) => {
            let owner = Owner { id: meta.uid, names: users.user_names(meta.uid)? };
            let group = Owner { id: meta.gid, names: users.group_names(meta.gid)? };
            (Some(owner), Some(group))
        }
        None => (None, None),
    };
    Ok(Observed::Present(Present {
        what,
        owner,
        group,
        mode: meta.mode,
        // Names of a directory come and go with what is below it.
        links: if meta.node == NodeType::Regular { meta.links } else { 1 },
        mount_point: meta.mount_point,
        real: meta.real,
    }))
}

/// Its type and content, and what is told of that very file: whoever owns the directory may exchange it for another while
/// we look, and its content with the other's owner and mode would be kept, and put back. `None` where it went away.
fn standing(looks: &mut Looks<'_>, path: &str, meta: Meta) -> Result<Option<(Standing, Meta)>, Error> {
    let what = match meta.node {
        NodeType::Regular => {
            let read = looks.digest(path, &meta, KEEP)?;
            return Ok(read.map(|(digest, meta)| {
                let size = meta.size;
                (digest.map_or(Standing::Large { size }, |digest| Standing::Regular { digest, size }), meta)
            }));
        }
        NodeType::Directory => Standing::Directory,
        NodeType::Symlink => match looks.read_link(path)? {
            Some(target) => Standing::Symlink { target },
            None => return Ok(None),
        },
        other => Standing::Other(other),
    };
    Ok(Some((what, meta)))
}
