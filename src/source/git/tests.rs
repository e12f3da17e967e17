use std::io::{self, Read, Write};
use std::thread;

use super::super::Record;
use super::super::pipe::Channel;
use super::*;
use crate::worker;
use crate::worker::protocol::{Answer, Request};

mod fuzz;

/// Both ends of a conversation with a thread that plays the worker.
#[derive(Debug)]
struct Line {
    from: io::PipeReader,
    to: io::PipeWriter,
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Channel for Line {}

/// A worker that answers each request with what `answers` makes of it, and ends where that is nothing.
fn fake(mut answers: impl FnMut(Request) -> Vec<Answer> + Send + 'static) -> Pipe {
    let (from, mut out) = io::pipe().expect("a pipe");
    let (mut input, to) = io::pipe().expect("a pipe");
    thread::spawn(move || {
        while let Ok(Some(request)) = Request::receive(&mut input) {
            let answers = answers(request);
            if answers.is_empty() {
                return;
            }
            for answer in answers {
                if answer.send(&mut out).is_err() {
                    return;
                }
            }
        }
    });
    Pipe::over(Box::new(Line { from, to }), "the fake", Duration::from_secs(60))
}

fn open() -> Open {
    Open { place: Place::Local { directory: "/x".to_owned() }, branch: "main".to_owned() }
}

/// A little object store.
#[derive(Default, Clone)]
struct Store(BTreeMap<ObjectName, (Kind, Vec<u8>)>);

impl Store {
    fn put(&mut self, kind: Kind, content: &[u8]) -> ObjectName {
        let git = match kind {
            Kind::Blob => gix_object::Kind::Blob,
            Kind::Tree => gix_object::Kind::Tree,
            Kind::Commit => gix_object::Kind::Commit,
        };
        let id = gix_object::compute_hash(gix_hash::Kind::Sha1, git, content).expect("no collision");
        let id = ObjectName::from_bytes(id.as_slice()).expect("20 bytes");
        self.0.insert(id, (kind, content.to_vec()));
        id
    }

    fn tree(&mut self, entries: &[(&str, &str, ObjectName)]) -> ObjectName {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            content.extend_from_slice(id.as_bytes());
        }
        self.put(Kind::Tree, &content)
    }

    fn commit(&mut self, tree: ObjectName, parents: &[ObjectName]) -> ObjectName {
        let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        let who = "Ana <ana@example.org> 1700000000 +0000";
        self.put(Kind::Commit, format!("tree {tree}\n{parents}author {who}\ncommitter {who}\n\nsubject\n").as_bytes())
    }

    fn answer(&self, request: &Request) -> Vec<Answer> {
        match request {
            Request::Objects(names) => names
                .iter()
                .map(|name| {
                    self.0.get(name).map_or(Answer::Missing, |(kind, content)| Answer::Object(*kind, content.clone()))
                })
                .collect(),
            _ => vec![Answer::Error { reason: "bad-request".to_owned(), message: "no".to_owned() }],
        }
    }
}

/// hosts/web/motd, with `nested` directories in between.
fn fleet(store: &mut Store, nested: usize) -> ObjectName {
    let motd = store.put(Kind::Blob, b"hi\n");
    let mut below = store.tree(&[("100644", "motd", motd)]);
    for _ in 0..nested {
        below = store.tree(&[("40000", "d", below)]);
    }
    let hosts = store.tree(&[("40000", "web", below)]);
    let toml = store.put(Kind::Blob, b"format = 1\n");
    store.tree(&[("40000", "hosts", hosts), ("100644", "trueup.toml", toml)])
}

fn read(store: Store, tip: ObjectName) -> Result<Snapshot> {
    let pipe = fake(move |request| match request {
        Request::Open(_) => vec![Answer::Tip(tip)],
        other => store.answer(&other),
    });
    let mut source = Source::over(pipe, open(), "")?;
    let mut snapshot = source.snapshot()?;
    source.read_layers(&mut snapshot, &["hosts/web".to_owned()])?;
    Ok(snapshot)
}

#[test]
fn an_honest_worker_is_read_from_the_commit_down() {
    let mut store = Store::default();
    let tree = fleet(&mut store, 0);
    let tip = store.commit(tree, &[]);
    let snapshot = read(store, tip).expect("reads");
    assert_eq!(snapshot.revision.subject, "subject");
    assert_eq!(snapshot.entries.keys().collect::<Vec<_>>(), ["hosts/web/motd", "trueup.toml"]);
}

#[test]
fn any_object_that_is_not_what_its_id_says_is_refused() {
    let mut honest = Store::default();
    let tree = fleet(&mut honest, 1);
    let tip = honest.commit(tree, &[]);
    for id in honest.0.keys() {
        let mut lying = honest.clone();
        lying.0.get_mut(id).expect("there").1.push(b'x');
        let error = read(lying, tip).expect_err("a lie");
        assert_eq!((error.reason(), error.class()), ("corrupt-object", crate::model::Class::Stalled), "{error}");
        assert!(error.to_string().contains("does not hash to its id"), "{error}");

        let mut missing = honest.clone();
        missing.0.remove(id);
        assert_eq!(read(missing, tip).expect_err("missing").reason(), "corrupt-object");
    }
}

#[test]
fn nesting_is_bounded() {
    for (nested, fits) in [(DEEPEST, true), (DEEPEST + 1, false)] {
        let mut store = Store::default();
        let tree = fleet(&mut store, nested);
        let tip = store.commit(tree, &[]);
        let result = read(store, tip).map_err(|error| error.reason());
        assert_eq!(result.is_ok(), fits, "{result:?}");
        assert!(fits || result.is_err_and(|reason| reason == "too-large"));
    }
}

#[test]
fn a_small_tree_that_unfolds_without_end_is_refused() {
    let mut store = Store::default();
    let motd = store.put(Kind::Blob, b"");
    let mut below = store.tree(&[("100644", "motd", motd)]);
    for _ in 0..30 {
        below = store.tree(&[("40000", "a", below), ("40000", "b", below)]);
    }
    let hosts = store.tree(&[("40000", "web", below)]);
    let tree = store.tree(&[("40000", "hosts", hosts)]);
    let tip = store.commit(tree, &[]);
    assert_eq!(read(store, tip).expect_err("too many").reason(), "too-large");
}

#[test]
fn a_worker_cannot_pretend_that_a_commit_is_an_ancestor() {
    let mut store = Store::default();
    let tree = store.tree(&[]);
    let old = store.commit(tree, &[]);
    let middle = store.commit(tree, &[old]);
    let tip = store.commit(tree, &[middle]);
    let stranger = ObjectName::from_bytes(&[7; 20]).expect("20 bytes");
    let ask = |path: Vec<ObjectName>, of: ObjectName| {
        let store = store.clone();
        let pipe = fake(move |request| match request {
            Request::Open(_) => vec![Answer::Tip(tip)],
            Request::Path { .. } => vec![Answer::Path(path.clone())],
            other => store.answer(&other),
        });
        Source::over(pipe, open(), "").expect("opens").descends_from(&objects::commit_id(of))
    };
    assert!(ask(vec![tip, middle, old], old).expect("true"));
    for lie in
        [vec![], vec![tip], vec![tip, stranger], vec![stranger], vec![tip, old], vec![middle, old], vec![tip, middle]]
    {
        assert!(ask(lie.clone(), stranger).is_err(), "{lie:?}");
    }
    assert!(ask(vec![tip, old], old).is_err(), "a step was left out");
    assert!(ask(vec![], tip).expect("the tip is itself"));
}

#[test]
fn a_worker_cannot_pretend_that_root_s_choice_is_in_the_history() {
    let mut store = Store::default();
    let tree = store.tree(&[]);
    let old = store.commit(tree, &[]);
    let anchor = store.commit(tree, &[old]);
    let tip = store.commit(tree, &[anchor]);
    let stranger = store.commit(tree, &[tip]);
    let mut record = Record::default();
    record.apply("main", &objects::commit_id(anchor), 1);
    let ask = |lie: fn(ObjectName, ObjectName) -> Vec<ObjectName>, of: ObjectName| {
        let store = store.clone();
        let pipe = fake(move |request| match request {
            Request::Open(_) => vec![Answer::Tip(tip)],
            Request::Path { from, to } => vec![Answer::Path(lie(from, to))],
            other => store.answer(&other),
        });
        let mut source = Source::over(pipe, open(), "").expect("opens");
        let of = objects::commit_id(of);
        let back = source.back_to(&of, &record, None).map(|back| back.stands);
        (back, source.approved(&of, &record, None))
    };
    for lie in [|from, to| vec![from, to], |_, to| vec![to], |from, _| vec![from], |_, _| vec![]] {
        let (back, approved) = ask(lie, stranger);
        assert!(back.is_err() && approved.is_err(), "{back:?} {approved:?}");
    }
    // A step is left out.
    let (back, approved) = ask(|from, to| vec![from, to], old);
    assert_eq!(back.expect("anchor is its child"), history::Stands::Behind);
    assert_eq!(approved.expect_err("tip is not").reason(), "corrupt-object");
}

#[test]
fn what_a_worker_has_not_is_no_way_and_a_tip_that_it_has_not_is_got_anew() {
    let mut store = Store::default();
    let tree = store.tree(&[]);
    let old = store.commit(tree, &[]);
    let tip = store.commit(tree, &[old]);
    let stranger = ObjectName::from_bytes(&[7; 20]).expect("20 bytes");
    let mut renewed = 0;
    let pipe = fake(move |request| match request {
        Request::Open(_) => vec![Answer::Tip(tip)],
        Request::Afresh => {
            renewed += 1;
            vec![Answer::Tip(tip)]
        }
        Request::Path { from, to } if from == tip && renewed > 0 => vec![Answer::Path(vec![from, to])],
        Request::Path { .. } => vec![Answer::Missing],
        other => store.answer(&other),
    });
    let mut record = Record::default();
    record.apply("main", &objects::commit_id(tip), 1);
    record.go_back("main", &objects::commit_id(stranger), 1);
    let mut source = Source::over(pipe, open(), "").expect("opens");
    let error = source.back_to(&objects::commit_id(stranger), &record, None).expect_err("it is not there");
    assert_eq!(error.reason(), "no-such-commit");
    assert!(source.descends_from(&objects::commit_id(old)).expect("got anew"));
}

#[test]
fn of_a_thousand_hosts_only_the_layers_of_its_own_are_asked_for() {
    let mut store = Store::default();
    let layer = |store: &mut Store, name: &str, toml: &str| {
        let motd = store.put(Kind::Blob, format!("this is {name}\n").as_bytes());
        let etc = store.tree(&[("100644", "motd", motd)]);
        let files = store.tree(&[("40000", "etc", etc)]);
        let toml = (toml, store.put(Kind::Blob, format!("# {name}\n").as_bytes()));
        store.tree(&[("40000", "files", files), ("100644", toml.0, toml.1)])
    };
    let all = |store: &mut Store, what: &str, count: usize, toml: &str| {
        let names: Vec<String> = (0..count).map(|n| format!("{what}-{n:04}")).collect();
        let trees: Vec<ObjectName> = names.iter().map(|name| layer(store, name, toml)).collect();
        let entries: Vec<_> = names.iter().zip(trees).map(|(name, tree)| ("40000", name.as_str(), tree)).collect();
        store.tree(&entries)
    };
    let hosts = all(&mut store, "web", 1000, "host.toml");
    let roles = all(&mut store, "role", 50, "role.toml");
    let toml = store.put(Kind::Blob, b"format = 1\n");
    let tree = store.tree(&[("40000", "hosts", hosts), ("40000", "roles", roles), ("100644", "trueup.toml", toml)]);
    let old = store.commit(tree, &[]);
    let tip = store.commit(tree, &[old]);
    let held = store.0.len();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let pipe = fake(move |request| match request {
        Request::Open(_) => vec![Answer::Tip(tip)],
        other => {
            if let Request::Objects(names) = &other {
                heard.lock().expect("whole").extend_from_slice(names);
            }
            store.answer(&other)
        }
    });
    let mut source = Source::over(pipe, open(), "").expect("opens");
    let mut snapshot = source.snapshot().expect("reads");
    assert_eq!((snapshot.hosts.len(), snapshot.roles.len()), (1000, 50));
    source.read_layers(&mut snapshot, &["hosts/web-0500".to_owned()]).expect("reads");
    source.read_layers(&mut snapshot, &["roles/role-0007".to_owned(), "roles/role-0033".to_owned()]).expect("reads");
    assert_eq!(snapshot.entries.len(), 1 + 3 * 2);
    let asked = asked.lock().expect("whole").clone();
    println!("{} of {held} objects were asked for", asked.len());
    // The commit, its tree, the names of hosts and roles, trueup.toml; of each layer three directories and two files.
    assert_eq!(asked.len(), 5 + 3 * 5);
    assert!(held > 5000 && asked.iter().collect::<BTreeSet<_>>().len() == asked.len(), "{held}: each once");
}

#[test]
fn a_worker_that_ends_or_babbles_is_an_error_that_may_pass() {
    let ended = Source::over(fake(|_| Vec::new()), open(), "").expect_err("it ended");
    assert_eq!((ended.reason(), ended.class()), ("fetch-failed", crate::model::Class::Transient));
    let babbling = Source::over(fake(|_| vec![Answer::NotADescendant]), open(), "").expect_err("not asked for");
    assert_eq!((babbling.reason(), babbling.class()), ("fetch-failed", crate::model::Class::Transient));
}

#[test]
fn what_a_worker_says_is_escaped_and_its_word_is_one_of_ours() {
    let pipe = fake(|_| vec![Answer::Error { reason: "in-sync\n".to_owned(), message: "a\nb\u{1b}[2J".to_owned() }]);
    let error = Source::over(pipe, open(), "").expect_err("refused");
    assert_eq!((error.reason(), error.to_string().as_str()), ("fetch-failed", "a\\nb\\u{1b}[2J"));
}

#[test]
fn a_damaged_store_is_renewed_once_and_then_believed() {
    let mut whole = Store::default();
    let tree = fleet(&mut whole, 0);
    let tip = whole.commit(tree, &[]);
    let mut damaged = whole.clone();
    damaged.0.remove(&tree);
    let mut store = damaged;
    let pipe = fake(move |request| match request {
        Request::Open(_) => vec![Answer::Tip(tip)],
        Request::Afresh => {
            store = whole.clone();
            vec![Answer::Tip(tip)]
        }
        other => store.answer(&other),
    });
    let snapshot = Source::over(pipe, open(), "").expect("opens").snapshot().expect("reads after all");
    assert_eq!(snapshot.hosts.len(), 1);
}

#[test]
fn the_real_worker_ends_at_the_end_of_its_input_and_answers_before_anything_is_open() {
    let mut input = Vec::new();
    Request::Afresh.send(&mut input).expect("sends");
    let name = ObjectName::from_bytes(&[1; 20]).expect("20 bytes");
    Request::Objects(vec![name, name]).send(&mut input).expect("sends");
    let mut output = Vec::new();
    worker::serve(&input[..], &mut output).expect("ends well");
    let mut answers = &output[..];
    for _ in 0..3 {
        assert!(matches!(Answer::receive(&mut answers), Ok(Answer::Error { .. })));
    }
    assert!(answers.is_empty());
    assert!(worker::serve(&b"GET / HTTP/1.1\r\n"[..], Vec::new()).is_err());
}
