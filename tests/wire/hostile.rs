//! A server that serves exactly the bytes it is given: packs that lie, swell or lead nowhere. Each is refused with a
//! word that stays the same, with a clone at hand and without one, and within ten seconds of the worker's CPU.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use gix_object::Kind;
use trueup::config::SourceSettings;
use trueup::host::Reader;
use trueup::source::{Entry, Snapshot, SourceError};

use super::super::source::{Bench, layers, trueup};
use super::pack::{Objects, Pack, deflated, delta, head, zeros};
use super::server::{Says, Server, packfile};

/// What the good server's host has in /etc/motd.
const GOOD: &[u8] = b"good\n";

/// A server that can be told to be hostile, and a host that looks there.
pub struct Scene {
    pub bench: Bench,
    pub settings: SourceSettings,
    server: Server,
    good: Says,
}

impl Scene {
    pub fn new() -> Self {
        let mut bench = Bench::new();
        // More, and the kernel ends it: setrlimit(2), RLIMIT_CPU.
        let bounded = bench.at.path().join("bounded");
        fs::write(&bounded, format!("#!/bin/sh\nulimit -t 10\nexec {} \"$@\"\n", trueup().display())).expect("writes");
        fs::set_permissions(&bounded, fs::Permissions::from_mode(0o755)).expect("chmod");
        bench.worker = Reader::directory(&bench.at.path().join("machine")).expect("opens").worker(bounded);
        let mut objects = sha1();
        let tree = objects.fleet(GOOD);
        let tip = objects.commit(&format!("tree {tree}\n"));
        let good = Says::all(&objects, tip);
        let server = Server::start(good.clone());
        let settings = bench.settings(&server.url());
        Self { bench, settings, server, good }
    }

    /// What a whole look brings.
    pub fn look(&self) -> Result<Snapshot, SourceError> {
        let mut source = self.bench.open(&self.settings)?;
        let mut snapshot = source.snapshot()?;
        source.read_layers(&mut snapshot, &layers(&["hosts/web-01"]))?;
        Ok(snapshot)
    }

    /// What comes of it where the server says this: without a clone, and with one of before.
    pub fn met<T>(&self, says: &Says, mut judge: impl FnMut(Result<Snapshot, SourceError>) -> T) -> [T; 2] {
        let mut meet = |when: &str| {
            self.server.say(says);
            let looked = self.look();
            let names = self.bench.clones();
            // One that was ended could not clear away what it had begun; the next does, as is seen below.
            let ended = matches!(looked, Err(SourceError::TimedOut { .. } | SourceError::TooLarge { .. }));
            let strange = names.iter().find(|name| name.contains('.') && !name.ends_with(".lock"));
            assert_eq!(strange.filter(|_| !ended), None, "{when}: {:?}", looked.as_ref().err());
            let judged = judge(looked);
            self.server.say(&self.good);
            super::recovers(&self.bench, &self.settings, when);
            assert_eq!(motd(&self.look().expect("it is good again")), GOOD);
            judged
        };
        drop(fs::remove_dir_all(self.bench.cache()));
        [meet("a first look"), meet("a look with a clone")]
    }

    /// It is refused with one of these words, by a worker that does not break; what is said.
    #[track_caller]
    pub fn refuses(&self, what: &str, says: &Says, reasons: &[&str]) -> String {
        let [first, again] = self.met(says, |looked| match looked {
            Ok(snapshot) => panic!("{what} was taken: {snapshot:?}"),
            Err(error @ SourceError::Worker { .. }) => panic!("{what}: {error}"),
            Err(error) => {
                let said = error.to_string();
                assert!(reasons.contains(&error.reason()), "{what}: {}: {said}", error.reason());
                assert!(said.chars().all(|c| !c.is_control()) && said.len() < 1000, "{what}: {said:?}");
                format!("{}: {said}", error.reason())
            }
        });
        println!("{what}: {first}");
        assert_eq!(first.split(':').next(), again.split(':').next(), "{what}: {again}");
        first
    }

    /// What is said where it is asked for a way from the tip down to `of`, which there is not.
    pub fn descent(&self, says: &Says, of: &str) -> [String; 2] {
        let of = of.parse().expect("an id");
        let way = || {
            self.server.say(says);
            let error = self.bench.open(&self.settings)?.descends_from(&of).expect_err("there is no way");
            Ok::<_, SourceError>(format!("{}: {error}", error.reason()))
        };
        drop(fs::remove_dir_all(self.bench.cache()));
        let first = way().expect("opens");
        self.server.say(&self.good);
        super::recovers(&self.bench, &self.settings, "a hole");
        [first, way().expect("opens")]
    }

    /// It is taken, and what is read is what the objects say.
    #[track_caller]
    pub fn takes(&self, what: &str, says: &Says, content: &[u8]) {
        self.met(says, |looked| match looked {
            Ok(snapshot) => assert_eq!(motd(&snapshot), content, "{what}"),
            Err(error) => panic!("{what}: {error}"),
        });
    }
}

pub fn sha1() -> Objects {
    Objects::new(gix_hash::Kind::Sha1)
}

/// What the host has in /etc/motd.
fn motd(snapshot: &Snapshot) -> &[u8] {
    match &snapshot.entries["hosts/web-01/files/etc/motd"] {
        Entry::File { content, .. } => content,
        other => panic!("{other:?}"),
    }
}

/// A fleet that says "evil", and its tip.
pub fn evil() -> (Objects, gix_hash::ObjectId) {
    let mut objects = sha1();
    let tree = objects.fleet(b"evil\n");
    let tip = objects.commit(&format!("tree {tree}\n"));
    (objects, tip)
}

#[test]
fn a_server_that_says_what_is_right_is_believed() {
    let scene = Scene::new();
    let (objects, tip) = evil();
    scene.takes("another fleet", &Says::all(&objects, tip), b"evil\n");
}

#[test]
fn a_pack_that_lies_about_itself_is_refused() {
    let scene = Scene::new();
    let (objects, tip) = evil();
    let refuses = |what: &str, pack: Vec<u8>, reasons: &[&str]| {
        scene.refuses(what, &Says::pack(pack, tip), reasons);
    };
    let with = |change: fn(&mut Pack)| {
        let mut pack = objects.pack();
        change(&mut pack);
        pack.bytes()
    };
    refuses("one object more than there is", with(|pack| pack.count += 1), &["fetch-failed"]);
    refuses(
        "a billion objects more than there are",
        with(|pack| pack.count += 1 << 30),
        &["fetch-failed", "too-large"],
    );
    refuses("one object less than there is", with(|pack| pack.count -= 1), &["fetch-failed"]);
    refuses("no objects", with(|pack| pack.count = 0), &["fetch-failed", "damaged-clone"]);
    let flipped = |at: usize, from_end: bool| {
        let mut pack = objects.pack().bytes();
        let at = if from_end { pack.len() - at } else { at };
        pack[at] ^= 0x10;
        pack
    };
    refuses("a wrong checksum", flipped(1, true), &["fetch-failed"]);
    refuses("another word at its beginning", flipped(0, false), &["fetch-failed"]);
    refuses("another version", flipped(7, false), &["fetch-failed"]);
    refuses("nothing", Vec::new(), &["fetch-failed"]);
    refuses("half of it", objects.pack().bytes()[..60].to_vec(), &["fetch-failed"]);
    refuses("no object but the end", Pack::new(gix_hash::Kind::Sha1).bytes(), &["fetch-failed", "damaged-clone"]);

    let odd = |entry: Vec<u8>, deflated: &[u8]| {
        let mut pack = objects.pack();
        pack.entry(&entry, deflated);
        pack.bytes()
    };
    refuses("an entry longer than it says", odd(head(3, 3), &deflated(b"1234")), &["fetch-failed"]);
    refuses("an entry shorter than it says", odd(head(3, 5), &deflated(b"1234")), &["fetch-failed"]);
    refuses("an entry of a kind that there is not", odd(head(5, 4), &deflated(b"1234")), &["fetch-failed"]);
    refuses("an entry of kind 0", odd(head(0, 4), &deflated(b"1234")), &["fetch-failed"]);
    refuses("a length without end", odd([vec![0xbf], vec![0xff; 100]].concat(), b""), &["fetch-failed"]);
    refuses("what is not deflated", odd(head(3, 100), &[0x55; 100]), &["fetch-failed"]);
}

#[test]
fn a_pack_that_is_not_whole_is_refused() {
    let scene = Scene::new();
    for (name, reason) in [("tip", "damaged-clone"), ("tree", "corrupt-object"), ("motd", "corrupt-object")] {
        let mut objects = sha1();
        let motd = objects.blob(b"evil\n");
        let tree = objects.fleet_of(motd);
        let tip = objects.commit(&format!("tree {tree}\n"));
        objects
            .remove([("tip", tip), ("tree", tree), ("motd", motd)].into_iter().find(|of| of.0 == name).expect("one").1);
        scene.refuses(&format!("without its {name}"), &Says::all(&objects, tip), &[reason]);
    }
}

#[test]
fn what_is_sent_beside_what_was_asked_for_changes_nothing() {
    let scene = Scene::new();
    let (mut objects, tip) = evil();
    objects.blob(b"nobody's");
    objects.commit("tree 0123456789012345678901234567890123456789\n");
    objects.put(Kind::Tag, format!("object {tip}\ntype commit\ntag x\n\nx\n").as_bytes());
    scene.takes("more than was asked for", &Says::all(&objects, tip), b"evil\n");
    let mut twice = objects.pack();
    twice.object(Kind::Blob, b"evil\n");
    scene.takes("an object twice", &Says::pack(twice.bytes(), tip), b"evil\n");
}

#[test]
fn a_delta_whose_base_is_elsewhere_is_refused() {
    let scene = Scene::new();
    let (objects, tip) = evil();
    let nobody = objects.id(Kind::Blob, b"nowhere");
    let refuses = |what: &str, add: &dyn Fn(&mut Pack)| {
        let mut pack = objects.pack();
        add(&mut pack);
        scene.refuses(what, &Says::pack(pack.bytes(), tip), &["fetch-failed"]);
    };
    refuses("a base that nobody has", &|pack| pack.delta_of(nobody, &delta(7, 7, b"!")));
    refuses("a base before the pack", &|pack| {
        let delta = delta(7, 7, b"!");
        let entry = [head(6, delta.len() as u64), vec![0xff, 0xff, 0xff, 0x7f]].concat();
        pack.entry(&entry, &deflated(&delta));
    });
    refuses("a base that is itself", &|pack| pack.delta_at(pack.here(), &delta(7, 7, b"!")));
    refuses("a base in the middle of an entry", &|pack| pack.delta_at(pack.here() - 1, &delta(7, 7, b"!")));
    // Each is what the other is made of.
    let (one, other) = (objects.id(Kind::Blob, b"nowhere!"), objects.id(Kind::Blob, b"nowhere!!"));
    refuses("two that are each other's base", &|pack| {
        pack.delta_of(other, &delta(9, 8, b""));
        pack.delta_of(one, &delta(8, 8, b"!"));
    });
    refuses("a delta that copies from beyond its base", &|pack| {
        let base = pack.here();
        pack.object(Kind::Blob, b"short");
        pack.delta_at(base, &delta(5, 5000, b""));
    });
    refuses("a delta of another length than its base", &|pack| {
        let base = pack.here();
        pack.object(Kind::Blob, b"short");
        pack.delta_at(base, &delta(4, 4, b"x"));
    });
}

#[test]
fn a_chain_of_ten_thousand_deltas_is_read_or_refused_and_costs_neither_stack_nor_time() {
    let scene = Scene::new();
    for of_the_first in [false, true] {
        let mut objects = sha1();
        let last = 9_999u32;
        let content = |n: u32| [&[b'a'; 96][..], format!("{n:04}").as_bytes()].concat();
        let tree = objects.fleet_of(objects.id(Kind::Blob, &content(last)));
        let tip = objects.commit(&format!("tree {tree}\n"));
        let mut pack = objects.pack();
        let mut base = pack.here();
        pack.object(Kind::Blob, &content(0));
        for n in 1..=last {
            let here = pack.here();
            let then = format!("{n:04}");
            if of_the_first {
                pack.delta_of(objects.id(Kind::Blob, &content(n - 1)), &delta(100, 96, then.as_bytes()));
            } else {
                pack.delta_at(base, &delta(100, 96, then.as_bytes()));
            }
            base = here;
        }
        scene.met(&Says::pack(pack.bytes(), tip), |looked| match looked {
            Ok(snapshot) => assert_eq!(motd(&snapshot), content(last)),
            Err(error) => assert_eq!(error.reason(), "too-large", "{error}"),
        });
    }
}

#[test]
fn a_pack_of_a_megabyte_and_a_half_that_holds_a_gigabyte_and_a_half_is_refused_and_the_agent_s_memory_does_not_move() {
    let scene = Scene::new();
    let (objects, tip) = evil();
    let all = 1_500u64 << 20;
    let one = zeros(all);
    let part = zeros(all / 6);
    let before = super::peak();
    for (what, parts, deflated) in [("one object", 1, &one), ("six objects", 6, &part)] {
        let mut pack = objects.pack();
        for _ in 0..parts {
            pack.entry(&head(3, all / parts), deflated);
        }
        let pack = pack.bytes();
        assert!(pack.len() < 1_700_000, "{}", pack.len());
        scene.refuses(&format!("1.5 GB in {what}"), &Says::pack(pack, tip), &["too-large"]);
    }
    // Copies of a base: one that is too large, and a thousand of which none is.
    let varint = |mut n: u64| {
        let mut bytes = Vec::new();
        while n >= 128 {
            bytes.push((n & 127) as u8 | 128);
            n >>= 7;
        }
        [bytes, vec![n as u8]].concat()
    };
    for (what, deltas, copies) in [("1.6 GB in a delta", 1, 100), ("250 GB in a thousand deltas", 1000, 15)] {
        let mut pack = objects.pack();
        let base = pack.here();
        pack.object(Kind::Blob, &[0; 0xff_ffff]);
        let copies_of_all = [0xf0, 0xff, 0xff, 0xff].repeat(copies);
        let delta = [varint(0xff_ffff), varint(copies as u64 * 0xff_ffff), copies_of_all].concat();
        (0..deltas).for_each(|_| pack.delta_at(base, &delta));
        scene.refuses(what, &Says::pack(pack.bytes(), tip), &["too-large"]);
    }
    let grown = super::peak() - before;
    println!("the agent's side took {} KiB more", grown >> 10);
}

#[test]
fn a_pack_without_end_is_refused() {
    let mut scene = Scene::new();
    scene.settings.timeout = Duration::from_secs(20);
    let (_, tip) = evil();
    // An object that says it is a terabyte, in blocks that are not deflated and none of which is the last; RFC 1951.
    let begun = [&b"PACK\0\0\0\x02\0\0\0\x01"[..], &head(3, 1 << 40), &[0x78, 0x01]].concat();
    let block = [&[0, 0x00, 0x80, 0xff, 0x7f][..], &[0; 0x8000]].concat();
    let mut says = Says::pack(b"", tip);
    let open = packfile(&begun);
    let open = open[..open.len() - 4].to_vec();
    says.pack = super::server::Part::from(open).then_for_ever(super::server::band(1, &block));
    scene.refuses("an object without end", &says, &["too-large", "timed-out"]);
}
