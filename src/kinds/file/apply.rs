use super::diff::diff;
use super::explain::too_large;
use super::observed::{look, resolved};
use super::obstacle::{in_the_way, over};
use super::protected::{self, Shape};
use super::secret;
use super::{File, KEEP, Node, Observed, Present, Replace, Spec, Standing, What, ancestors};
use crate::host::{Attributes, Error, Made, NodeType, Payloads, Users, Writer};
use crate::kinds::Job;
use crate::model::Digest;

/// Up to so many changes are made durable one by one: that is faster than to sync a file system.
const ONE_BY_ONE: usize = 32;
/// So many at most are made durable together: each holds a descriptor until it is.
const TOGETHER: usize = 500;
/// And so many bytes of content: until then the old ones are there, too.
const BYTES_TOGETHER: u64 = 64 << 20;

/// Converges each path, in the order given.
pub(super) fn apply(host: &mut Writer, payloads: &Payloads, jobs: &[Job<'_, File>]) -> Vec<Result<(), Error>> {
    let users = match host.users() {
        Ok(users) => users,
        Err(error) => {
            let why = error.chain();
            let failed = |job: &Job<'_, File>| Err(Error::Unknown { thing: job.name.to_owned(), why: why.clone() });
            return jobs.iter().map(failed).collect();
        }
    };
    let change = |host: &mut Writer, job: &Job<'_, File>| {
        if host.interrupted() {
            return Err(Error::interrupted(job.name));
        }
        host.say(job.name);
        converge(host, payloads, &users, job)
    };
    let mut results = Vec::with_capacity(jobs.len());
    for some in batches(jobs) {
        // Before anything is made ready: that would be taken for a left-over.
        let mut swept = None;
        for job in some {
            let above = ancestors(job.name).next();
            if swept.replace(above) != Some(above) {
                sweep(host, job.name);
            }
        }
        if some.len() <= ONE_BY_ONE {
            results.extend(some.iter().map(|job| match change(host, job)? {
                Made::Done => Ok(()),
                Made::Ready(ready) => host.put(*ready),
            }));
        } else {
            let path = |at: usize| some[at].name.to_owned();
            results.extend(host.change_together(some.len(), |host, at| change(host, &some[at]), path));
        }
    }
    results
}

/// `jobs` in pieces that are not too much to be made durable together.
fn batches<'j, 'a>(mut jobs: &'j [Job<'a, File>]) -> Vec<&'j [Job<'a, File>]> {
    let mut batches = Vec::new();
    while !jobs.is_empty() {
        let mut bytes: u64 = 0;
        let fits = jobs.iter().take(TOGETHER).take_while(|job| {
            let fits = bytes <= BYTES_TOGETHER;
            if let What::Regular { size, .. } = job.want.what {
                bytes = bytes.saturating_add(size);
            }
            fits
        });
        let (batch, rest) = jobs.split_at(fits.count());
        batches.push(batch);
        jobs = rest;
    }
    batches
}

fn converge(host: &mut Writer, payloads: &Payloads, users: &Users, job: &Job<'_, File>) -> Result<Made, Error> {
    // A link that was made since the look may lead elsewhere now.
    protected::refuse(job.name, &resolved(host, job.name)?, Shape::of(job.want))?;
    let now = look(host, users, job.name)?;
    if diff(job.want, &now).is_empty() {
        return Ok(Made::Done);
    }
    if !job.seen.unchanged(&now) {
        return Err(Error::Refused {
            thing: job.name.to_owned(),
            reason: "stale",
            why: "it is no longer what the plan was made for; looked at again in the next pass".to_owned(),
        });
    }
    // No copy of it was made, and none can be.
    if let Observed::Present(Present { what: Standing::Large { size }, .. }) = now
        && job.want.what != What::Attributes
    {
        return Err(too_large(job.name, size, KEEP));
    }
    let work = Work { path: job.name, want: job.want, now: &now, attributes: attributes(host, users, job)? };
    match &job.want.what {
        What::Absent => work.remove(host),
        What::Attributes => host.set_attributes(work.path, work.attributes),
        What::Directory => work.directory(host),
        What::Tree { nodes } => work.tree(host, payloads, nodes),
        What::Symlink { target } => {
            let over = over(work.path, work.want, work.now)?;
            host.make_symlink(work.path, target, work.attributes, over)
        }
        What::Regular { content, .. } => return work.regular(host, payloads, content),
        What::Sealed { why } => Err(Error::locked(work.path, why)),
    }
    .map(|()| Made::Done)
}

/// Removes what an interrupted pass may have left where `path` was about to be written.
pub fn sweep(host: &mut Writer, path: &str) {
    for above in ancestors(path).chain(["/"]) {
        match host.look(above) {
            Ok(None) => {}
            Ok(Some(meta)) if matches!(meta.node, NodeType::Directory | NodeType::Symlink) => {
                // As good as it goes: what keeps us from writing here is told by the write that follows.
                let _ = host.sweep_once(above);
                return;
            }
            _ => return,
        }
    }
}

/// Owner, group and mode as numbers. Where owners cannot be set none is asked for.
fn attributes(host: &Writer, users: &Users, job: &Job<'_, File>) -> Result<Attributes, Error> {
    let unknown = |what, name: &str| Error::UnknownOwner { path: job.name.to_owned(), what, name: name.to_owned() };
    let bits = |mode: Option<u32>| mode.map(|mode| mode & 0o7777);
    let (mode, unlisted) = (bits(job.want.mode), bits(job.want.unlisted));
    let mut attributes = Attributes { mode, unlisted, ..Attributes::default() };
    if !host.can_own() || !host.has_users() {
        return Ok(attributes);
    }
    if let Some(owner) = &job.want.owner {
        attributes.uid = Some(users.uid(owner)?.ok_or_else(|| unknown("user", owner))?);
    }
    if let Some(group) = &job.want.group {
        attributes.gid = Some(users.gid(group)?.ok_or_else(|| unknown("group", group))?);
    }
    Ok(attributes)
}

/// One path that has to change.
struct Work<'a> {
    path: &'a str,
    want: &'a Spec,
    now: &'a Observed,
    attributes: Attributes,
}

impl Work<'_> {
    fn regular(&self, host: &mut Writer, payloads: &Payloads, content: &Digest) -> Result<Made, Error> {
        if let Observed::Present(Present {
            what: Standing::Regular { digest, .. }, links: 1, mount_point: false, ..
        }) = self.now
            && digest == content
            // Where it is to have its list the mode says nothing without.
            && self.want.unlisted.is_none()
            && self.in_place()
        {
            return host.set_attributes(self.path, self.attributes).map(|()| Made::Done);
        }
        let over = over(self.path, self.want, self.now)?;
        let ready = match self.want.secret {
            None => host.make_ready(self.path, self.attributes, &payloads.need(content, self.path)?, over),
            Some(sealed) => {
                let plain = secret::open(&*host.keyring(), payloads, self.path, (content, sealed))?;
                host.make_ready(self.path, self.attributes, &plain, over)
            }
        };
        ready.map(|ready| Made::Ready(Box::new(ready)))
    }

    /// Whether one call sets all there is to set, so that owner and mode belong together at every instant, and nobody who
    /// could write is to write no more: they may have the file open. Else it is written anew.
    fn in_place(&self) -> bool {
        let Observed::Present(seen) = self.now else { return false };
        match diff(self.want, self.now).as_slice() {
            [one] if one.property == "mode" => seen.mode & 0o222 & !self.attributes.mode.unwrap_or(seen.mode) == 0,
            // chown(2) clears setuid and setgid.
            [one] if one.property == "group" => seen.mode & 0o7020 == 0,
            // An owner may let themselves write at any time.
            _ => false,
        }
    }

    fn directory(&self, host: &mut Writer) -> Result<(), Error> {
        if let Observed::Present(Present { what: Standing::Directory, .. }) = self.now {
            return host.set_attributes(self.path, self.attributes);
        }
        let over = over(self.path, self.want, self.now)?;
        host.make_directory(self.path, self.attributes, over)
    }

    /// As it was, whole; a directory that stands there by now is left alone but for its attributes.
    fn tree(&self, host: &mut Writer, payloads: &Payloads, nodes: &[Node]) -> Result<(), Error> {
        if let Observed::Present(Present { what: Standing::Directory, .. }) = self.now {
            return host.set_attributes(self.path, self.attributes);
        }
        let over = over(self.path, self.want, self.now)?;
        let keys = host.keyring();
        host.make_tree(self.path, self.attributes, over, |stage| {
            nodes.iter().try_for_each(|node| node.put(&*keys, stage, payloads, self.path))
        })
    }

    fn remove(&self, host: &mut Writer) -> Result<(), Error> {
        let Observed::Present(seen) = self.now else { return Ok(()) };
        match seen.what {
            Standing::Regular { .. } | Standing::Symlink { .. } => host.remove(self.path),
            Standing::Directory => match self.want.replace {
                Replace::Directory | Replace::Any => host.remove_tree(self.path),
                Replace::Nothing | Replace::Symlink | Replace::Own => host.remove_directory(self.path),
            },
            Standing::Large { size } => Err(too_large(self.path, size, KEEP)),
            Standing::Other(_) if self.want.replace == Replace::Any => host.remove(self.path),
            Standing::Other(_) => Err(in_the_way(self.path, self.want, seen)),
        }
    }
}
