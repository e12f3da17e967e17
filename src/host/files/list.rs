//! Access control lists, as far as the mode depends on them; see acl(5).

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::{Meta, NodeType, io, look_in, open_quietly};
use crate::host::{Error, Reader};

/// The attribute that holds the list of a node.
pub(super) const LIST: &str = "system.posix_acl_access";

/// Tags of the entries of a list that the group bits come from; the kernel's posix_acl.h.
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;

impl Reader {
    /// What is told of the file or directory `path`, and the permission bits that it has without its access control list:
    /// with one the group bits say what the list grants at most, to whomever, and not what the group may do. No bits
    /// where it has no list, or one that grants nothing; nothing where something else stands there, or nothing.
    ///
    /// # Errors
    /// Where it cannot be told.
    pub fn unlisted(&self, path: &str) -> Result<Option<(Meta, Option<u32>)>, Error> {
        let Some(parent) = self.root.parent(path)? else { return Ok(None) };
        match look_in(&parent, path)? {
            Some(meta) if !matches!(meta.node, NodeType::Regular | NodeType::Directory) => return Ok(None),
            Some(meta) if meta.mode & 0o070 == 0 => return Ok(Some((meta, None))),
            Some(_) => {}
            None => return Ok(None),
        }
        let (node, meta) = open_quietly(&parent).map_err(io("open", path))?;
        let mode = unlisted(&node, meta.mode).map_err(io("read the access control list of", path))?;
        Ok(Some((meta, mode)))
    }
}

/// The permission bits of an open `node`, `mode` as it is told, without its list; `None` where it has none.
pub(super) fn unlisted(node: &OwnedFd, mode: u32) -> Result<Option<u32>, Errno> {
    let mut list = vec![0; 64 * 1024];
    match rustix::fs::fgetxattr(node, LIST, list.as_mut_slice()) {
        Ok(length) => Ok(Some(without(mode, &list[..length]))),
        // None there, or none on this file system.
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// `mode` without `list`: the group may do what its own entry and the mask allow. A number for the version, then entries
/// of tag, permissions and id; the kernel's posix_acl_xattr.h.
fn without(mode: u32, list: &[u8]) -> u32 {
    let entries = list.get(4..).unwrap_or_default().chunks_exact(8);
    let entries = entries.map(|entry| (u16::from_le_bytes([entry[0], entry[1]]), u32::from(entry[2] & 7)));
    let of = |wanted| entries.clone().find(|(tag, _)| *tag == wanted).map(|(_, allowed)| allowed);
    // What has no entry for the group is no list: nobody is to get more by it.
    let group = of(GROUP).unwrap_or(0) & of(MASK).unwrap_or(7);
    mode & (!0o070 | group << 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u8)]) -> Vec<u8> {
        let mut list = vec![2, 0, 0, 0];
        for (tag, allowed) in entries {
            list.extend(tag.to_le_bytes());
            list.extend([*allowed, 0, 0xff, 0xff, 0xff, 0xff]);
        }
        list
    }

    #[test]
    fn the_group_may_do_what_its_entry_and_the_mask_allow() {
        // Owner, a user, the group, the mask, others.
        let of = |group, mask| list(&[(1, 6), (2, 6), (GROUP, group), (MASK, mask), (32, 4)]);
        assert_eq!(without(0o2664, &of(0, 6)), 0o2604);
        assert_eq!(without(0o664, &of(4, 6)), 0o644);
        assert_eq!(without(0o664, &of(7, 6)), 0o664, "no more than the mask");
        assert_eq!(without(0o644, &list(&[(1, 6), (GROUP, 4), (32, 4)])), 0o644, "no mask");
        assert_eq!(without(0o664, &[2, 0, 0]), 0o604, "no list");
    }
}
