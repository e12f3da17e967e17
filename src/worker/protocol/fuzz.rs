//! Whatever comes over the pipe is a value of the protocol or an error, and takes no more memory than came.

use std::io::Read;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Counts what is taken of it.
struct Counted<'a>(&'a [u8], usize);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        self.1 += n;
        Ok(n)
    }
}

/// One way to spoil bytes.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Set(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
    Drop(usize, usize),
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<usize>().prop_map(Change::Cut),
        1 => (any::<usize>(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (any::<usize>(), 1..200usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        1 => (any::<usize>(), 1..50usize).prop_map(|(at, length)| Change::Drop(at, length)),
    ];
    vec(change, 1..6)
}

pub(crate) fn spoiled(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let at = |at: usize| at % bytes.len().max(1);
        match change {
            _ if bytes.is_empty() => {}
            Change::Set(place, byte) => {
                let place = at(*place);
                bytes[place] = *byte;
            }
            Change::Cut(place) => bytes.truncate(at(*place)),
            Change::Insert(place, more) => {
                let place = at(*place);
                bytes.splice(place..place, more.iter().copied());
            }
            Change::Repeat(place, length) => {
                let place = at(*place);
                let again = bytes[place..(place + length).min(bytes.len())].to_vec();
                bytes.splice(place..place, again);
            }
            Change::Drop(place, length) => {
                let place = at(*place);
                bytes.drain(place..(place + length).min(bytes.len()));
            }
        }
    }
    bytes
}

fn names() -> impl Strategy<Value = Vec<ObjectName>> {
    let name = prop_oneof![vec(any::<u8>(), 20), vec(any::<u8>(), 32)];
    vec(name.prop_map(|bytes| ObjectName::from_bytes(&bytes).expect("20 or 32")), 0..40)
}

fn answers() -> impl Strategy<Value = Answer> {
    let kind = prop_oneof![Just(Kind::Commit), Just(Kind::Tree), Just(Kind::Blob)];
    prop_oneof![
        (any::<u32>(), any::<u8>(), any::<bool>()).prop_map(|(uid, landlock, filtered)| Answer::Walls(Walls {
            uid,
            landlock,
            filtered
        })),
        vec(any::<u8>(), 20).prop_map(|bytes| Answer::Tip(ObjectName::from_bytes(&bytes).expect("20"))),
        (kind, vec(any::<u8>(), 0..2000)).prop_map(|(kind, bytes)| Answer::Object(kind, bytes)),
        any::<u64>().prop_map(Answer::TooLarge),
        Just(Answer::Missing),
        Just(Answer::NotADescendant),
        names().prop_map(Answer::Path),
        (any::<String>(), any::<String>()).prop_map(|(reason, message)| Answer::Error { reason, message }),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    let text = || any::<String>();
    // Names of clones beside it are lines.
    let files = (text(), text(), text(), text(), text(), text());
    let login = proptest::option::of((text(), text()));
    let remote = (text(), text(), vec("[a-z0-9]{1,9}", 0..3), any::<bool>(), login, files).prop_map(
        |(url, cache, beside, insecure, login, files)| {
            let (ca_file, proxy, client_cert, client_key, ssh_key, known_hosts) = files;
            let login = login.map(|(user, secret)| (user, Secret(secret)));
            Remote {
                url,
                cache,
                beside,
                insecure,
                ca_file,
                proxy,
                client_cert,
                client_key,
                login,
                ssh_key,
                known_hosts,
            }
        },
    );
    let remote = remote.prop_map(|remote| Place::Remote(Box::new(remote)));
    let place = prop_oneof![text().prop_map(|directory| Place::Local { directory }), remote];
    let two = || (vec(any::<u8>(), 20), vec(any::<u8>(), 32));
    let name = |bytes: &[u8]| ObjectName::from_bytes(bytes).expect("20 or 32");
    prop_oneof![
        (place, text()).prop_map(|(place, branch)| Request::Open(Box::new(Open { place, branch }))),
        Just(Request::Afresh),
        names().prop_map(Request::Objects),
        two().prop_map(move |(from, to)| Request::Path { from: name(&from), to: name(&to) }),
        two().prop_map(move |(tip, known)| Request::Since { tip: name(&tip), known: name(&known) }),
    ]
}

/// About how much memory it takes beside its own size, in bytes.
fn weight(answer: &Answer) -> usize {
    match answer {
        Answer::Object(_, content) => content.capacity(),
        Answer::Path(names) => names.capacity() * size_of::<ObjectName>(),
        Answer::Error { reason, message } => reason.capacity() + message.capacity(),
        _ => 0,
    }
}

/// Reads answers to the end or the first error.
fn receive_all(bytes: &[u8]) {
    let mut input = Counted(bytes, 0);
    loop {
        let before = input.1;
        let Ok(answer) = Answer::receive(&mut input) else { break };
        let taken = input.1 - before;
        assert!(taken <= 4 + LARGEST_ANSWER);
        assert!(weight(&answer) <= (64 << 10) + 2 * taken, "{} of {taken}", weight(&answer));
        // What is believed is said again as it came.
        let mut again = Vec::new();
        answer.send(&mut again).expect("it fits");
        assert_eq!(again, &bytes[before..before + taken]);
    }
    assert!(input.1 <= bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answers_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        receive_all(&bytes);
    }

    #[test]
    fn any_frame_is_an_answer_or_an_error(letter in any::<u8>(), rest in vec(any::<u8>(), 0..300)) {
        let length = u32::try_from(1 + rest.len()).expect("small").to_be_bytes();
        let frame = [&length[..], &[letter], &rest].concat();
        receive_all(&frame);
        drop(Request::receive(&mut &frame[..]));
    }

    #[test]
    fn answers_that_were_changed_are_answers_or_an_error(said in vec(answers(), 1..6), changes in changes()) {
        let mut wire = Vec::new();
        said.iter().for_each(|answer| answer.send(&mut wire).expect("fits"));
        receive_all(&wire);
        receive_all(&spoiled(wire, &changes));
    }

    #[test]
    fn requests_that_were_changed_are_requests_or_an_error(said in vec(requests(), 1..6), changes in changes()) {
        let mut wire = Vec::new();
        said.iter().for_each(|request| request.send(&mut wire).expect("fits"));
        let mut input = &wire[..];
        for request in said {
            prop_assert_eq!(Request::receive(&mut input).expect("whole"), Some(request));
        }
        let wire = spoiled(wire, &changes);
        let mut input = Counted(&wire, 0);
        loop {
            let before = input.1;
            let Ok(Some(_)) = Request::receive(&mut input) else { break };
            prop_assert!(input.1 - before <= 4 + LARGEST_REQUEST);
        }
    }

    #[test]
    fn a_length_that_is_announced_is_believed_once_it_has_come(length in any::<u32>(), come in 0..100usize) {
        let bytes = [&length.to_be_bytes()[..], &vec![b'b'; come]].concat();
        let mut input = Counted(&bytes, 0);
        let answered = Answer::receive(&mut input);
        let fits = length > 0 && length as usize <= come;
        prop_assert_eq!(answered.is_ok(), fits);
    }
}
