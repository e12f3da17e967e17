//! A look at a branch over https in one request, for the many polls that find nothing new: `ls-refs` of protocol
//! version 2 without asking first what the server can do; gitprotocol-http(5), gitprotocol-v2(5).
//!
//! It only ever says that the branch is still where the clone has it. Whatever else comes of it, an error as well,
//! is found again by the whole way in `remote`, which also has the words for it.

use std::io::{self, Read};
use std::rc::Rc;

use base64ct::{Base64, Encoding};
use curl::multi::Multi;
use gix::ObjectId;

use super::http::{Body, Exchange};
use super::protocol::Remote;

/// What the answer may hold at most; one branch is one line, and those whose names begin with its name.
const LARGEST: u64 = 64 << 10;

/// Whether `branch` at the server is `at_hand`, as far as one request tells.
pub(super) fn still_there(remote: &Remote, branch: &str, at_hand: ObjectId) -> bool {
    remote.url.starts_with("https://")
        && ask(remote, &request(branch, at_hand.kind())).is_ok_and(|answer| tip(&answer, branch) == Some(at_hand))
}

/// One pkt-line.
fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

fn request(branch: &str, hash: gix::hash::Kind) -> String {
    // Servers from before there was another kind of id know nothing of kinds.
    let hash = if hash == gix::hash::Kind::Sha1 { String::new() } else { line(&format!("object-format={hash}\n")) };
    [line("command=ls-refs\n"), hash, "0001".to_owned(), line(&format!("ref-prefix refs/heads/{branch}\n"))].concat()
        + "0000"
}

/// The commit of `branch` in an answer that is whole.
fn tip(answer: &[u8], branch: &str) -> Option<ObjectId> {
    let wanted = format!("refs/heads/{branch}");
    let (mut rest, mut found) = (answer, None);
    loop {
        let (length, after) = rest.split_at_checked(4)?;
        let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
        if length == 0 {
            return found.filter(|_| after.is_empty());
        }
        let (text, after) = after.split_at_checked(length.checked_sub(4)?)?;
        let mut words = std::str::from_utf8(text).ok()?.trim_end().split(' ');
        if let (Some(id), Some(name)) = (words.next(), words.next())
            && name == wanted
        {
            found = Some(ObjectId::from_hex(id.as_bytes()).ok()?);
        }
        rest = after;
    }
}

/// The answer to one request, whole; an error where it is longer than it may be.
fn ask(remote: &Remote, request: &str) -> io::Result<Vec<u8>> {
    let url = format!("{}/git-upload-pack", remote.url.trim_end_matches('/'));
    let mut headers = vec![
        concat!("User-Agent: trueup/", env!("CARGO_PKG_VERSION")).to_owned(),
        "Content-Type: application/x-git-upload-pack-request".to_owned(),
        "Accept: application/x-git-upload-pack-result".to_owned(),
        "Git-Protocol: version=2".to_owned(),
    ];
    if let Some((user, secret)) = &remote.login {
        headers
            .push(format!("Authorization: Basic {}", Base64::encode_string(format!("{user}:{}", secret.0).as_bytes())));
    }
    let request = Some(request.as_bytes().to_vec());
    let exchange = Exchange::new(remote, Rc::new(Multi::new()), &url, headers, request).map_err(io::Error::other)?;
    let mut answer = Vec::new();
    Body::of(exchange).take(LARGEST + 1).read_to_end(&mut answer)?;
    if answer.len() as u64 > LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_request_is_pkt_lines_and_names_the_kind_of_ids_where_it_is_not_the_usual() {
        let plain = "0014command=ls-refs\n0001001fref-prefix refs/heads/main\n0000";
        assert_eq!(request("main", gix::hash::Kind::Sha1), plain);
        assert!(request("main", gix::hash::Kind::Sha256).contains("0019object-format=sha256\n0001"));
    }

    #[test]
    fn the_branch_is_found_among_those_whose_names_begin_like_it() {
        let of = |name: &str| line(&format!("{ID} refs/heads/{name}\n"));
        let other = line(&format!("{} refs/heads/main-2\n", "f".repeat(40)));
        let id = ObjectId::from_hex(ID.as_bytes()).ok();
        assert_eq!(tip(format!("{other}{}0000", of("main")).as_bytes(), "main"), id);
        assert_eq!(tip(format!("{}{other}0000", of("main")).as_bytes(), "main"), id);
        assert_eq!(tip(format!("{other}0000").as_bytes(), "main"), None);
        assert_eq!(tip(b"0000", "main"), None);
    }

    #[test]
    fn an_answer_that_is_no_list_of_branches_says_nothing() {
        let good = line(&format!("{ID} refs/heads/main\n"));
        for bad in [
            String::new(),
            good.clone(),
            format!("{good}0000 and more"),
            format!("{}0000", line("ERR go away\n")),
            format!("{}0000", line(&format!("{} refs/heads/main\n", &ID[..39]))),
            "0003".to_owned(),
            "zzzz".to_owned(),
            "ffff".to_owned(),
            "<html>".to_owned(),
        ] {
            assert_eq!(tip(bad.as_bytes(), "main"), None, "{bad}");
        }
    }
}
