//! What whole repositories come to.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::kinds::package::{self, Downgrade, Version};
use crate::kinds::unit::{self, OnChange};
use crate::kinds::{Spec, file};
use crate::manifest::{LayerKind, Problem, parse_fleet, parse_layer, render, text_of};
use crate::model::{Drift, Facts, Family, Id, Os, Release, Revision, Update};
use crate::source::{BadName, Entry, Snapshot};

const HOST: &str = "hosts/web-01/host.toml";

/// A snapshot of these files, every layer read. `*` before a path makes it executable, `->` before a content a link.
pub(super) fn repo(files: &[(&str, &str)]) -> Snapshot {
    let mut snapshot = Snapshot {
        revision: Revision::uncommitted(),
        hosts: BTreeSet::from(["web-01".to_owned()]),
        roles: BTreeSet::new(),
        layers: BTreeSet::from(["hosts/web-01".to_owned()]),
        entries: BTreeMap::new(),
    };
    snapshot.entries.insert("trueup.toml".to_owned(), text("format = 1\n"));
    for (path, content) in files {
        let bare = path.trim_start_matches('*');
        let entry = match content.strip_prefix("->") {
            Some(target) => Entry::Symlink { target: target.as_bytes().into() },
            None => Entry::File { content: content.as_bytes().into(), executable: bare != *path },
        };
        snapshot.entries.insert(bare.to_owned(), entry);
        if let [kind @ ("hosts" | "roles"), name, _, ..] = bare.split('/').collect::<Vec<_>>().as_slice() {
            snapshot.layers.insert(format!("{kind}/{name}"));
            let names = if *kind == "hosts" { &mut snapshot.hosts } else { &mut snapshot.roles };
            names.insert((*name).to_owned());
        }
    }
    snapshot
}

fn text(content: &str) -> Entry {
    Entry::File { content: content.as_bytes().into(), executable: false }
}

pub(super) fn debian() -> Facts {
    let os =
        Os { id: "debian".into(), family: Some(Family::Debian), version: "12".into(), codename: "bookworm".into() };
    Facts { os: Some(os), hostname: Some("web-01".into()), ..Facts::default() }
}

fn try_compile(snapshot: &Snapshot) -> Result<Compiled, Vec<Problem>> {
    assert_eq!(missing_layers(snapshot, "web-01"), Vec::<String>::new());
    compile(snapshot, "web-01", &debian(), &Options::default())
}

#[track_caller]
fn compiled(files: &[(&str, &str)]) -> Compiled {
    let snapshot = repo(files);
    try_compile(&snapshot).unwrap_or_else(|problems| panic!("{}", render(&problems, text_of(&snapshot), false)))
}

#[track_caller]
fn errors(files: &[(&str, &str)]) -> Vec<String> {
    let problems = try_compile(&repo(files)).expect_err("a mistake");
    problems.into_iter().filter(Problem::is_error).map(|problem| problem.message).collect()
}

impl Compiled {
    fn wanted(&self, id: &str) -> &Wanted {
        let id: Id = id.parse().expect("an id");
        self.desired.resources.get(&id).unwrap_or_else(|| panic!("no {id} in {:?}", self.desired.resources.keys()))
    }

    fn file(&self, path: &str) -> &file::Spec {
        match &self.wanted(&format!("file:{path}")).spec {
            Spec::File(spec) => spec,
            other => panic!("{other:?}"),
        }
    }

    fn unit(&self, name: &str) -> &unit::Spec {
        match &self.wanted(&format!("unit:{name}")).spec {
            Spec::Unit(spec) => spec,
            other => panic!("{other:?}"),
        }
    }

    fn package(&self, name: &str) -> &package::Spec {
        match &self.wanted(&format!("package:{name}")).spec {
            Spec::Package(spec) => spec,
            other => panic!("{other:?}"),
        }
    }

    fn content(&self, path: &str) -> String {
        match &self.file(path).what {
            file::What::Regular { content, size } => {
                let bytes = self.payloads.get(content).expect("every content is a payload");
                assert_eq!(bytes.len() as u64, *size);
                String::from_utf8(bytes.to_vec()).expect("text")
            }
            other => panic!("{other:?}"),
        }
    }

    fn ids(&self) -> Vec<&str> {
        self.desired.resources.keys().map(Id::as_str).collect()
    }
}

#[test]
fn a_file_in_a_tree_is_the_whole_declaration() {
    let done = compiled(&[
        ("hosts/web-01/files/etc/motd", "hello\n"),
        ("*hosts/web-01/files/usr/local/bin/tool", "#!/bin/sh\n"),
        ("hosts/web-01/files/etc/localtime", "->/usr/share/zoneinfo/Europe/Paris"),
        ("hosts/web-01/files/var/spool/x/.gitkeep", ""),
        ("hosts/web-01/files/etc/empty", ""),
    ]);
    assert_eq!(done.ids(), ["file:/etc/empty", "file:/etc/localtime", "file:/etc/motd", "file:/usr/local/bin/tool"]);
    assert_eq!(done.content("/etc/motd"), "hello\n");
    let motd = done.file("/etc/motd");
    assert_eq!((motd.owner.as_deref(), motd.group.as_deref(), motd.mode), (Some("root"), Some("root"), Some(0o644)));
    assert_eq!(done.file("/usr/local/bin/tool").mode, Some(0o755));
    let link = done.file("/etc/localtime");
    assert_eq!(link.what, file::What::Symlink { target: "/usr/share/zoneinfo/Europe/Paris".into() });
    assert_eq!(link.mode, None);
    assert_eq!(done.notes, []);
    let wanted = done.wanted("file:/etc/motd");
    assert_eq!(
        (wanted.drift, wanted.release, wanted.layer.as_str()),
        (Drift::Correct, Release::Restore, "hosts/web-01")
    );
}

#[test]
fn units_of_a_tree_are_files_and_known_units() {
    let done = compiled(&[
        ("hosts/web-01/units/app.service", "[Service]\n"),
        ("hosts/web-01/units/nginx.service.d/limits.conf", "[Service]\n"),
        ("hosts/web-01/units/x@.service", "[Service]\n"),
        ("hosts/web-01/units/mount.d/all.conf.j2", "# {{ host.name }}\n"),
        ("hosts/web-01/files/lib/systemd/system/vendor.timer", "[Timer]\n"),
    ]);
    assert_eq!(
        done.ids(),
        [
            "file:/etc/systemd/system/app.service",
            "file:/etc/systemd/system/mount.d/all.conf",
            "file:/etc/systemd/system/nginx.service.d/limits.conf",
            "file:/etc/systemd/system/x@.service",
            "file:/usr/lib/systemd/system/vendor.timer",
            "unit:app.service",
            "unit:nginx.service",
            "unit:vendor.timer",
        ]
    );
    assert_eq!(*done.unit("app.service"), unit::Spec::default());
    assert_eq!(done.unit("app.service").on_change, OnChange::Restart);
    assert_eq!(done.content("/etc/systemd/system/mount.d/all.conf"), "# web-01\n");
}

#[test]
fn exact_entries_beat_patterns_and_longer_patterns_shorter_ones() {
    let manifest = r#"
[files."/srv/**"]
owner = "far"
group = "far"
mode = "0600"
[files."/srv/app/**"]
owner = "near"
group = "near"
[files."/srv/app/x"]
owner = "exact"
[files."/srv/app"]
type = "directory"
"#;
    let done = compiled(&[(HOST, manifest), ("hosts/web-01/files/srv/app/x", "x"), ("hosts/web-01/files/srv/y", "y")]);
    let x = done.file("/srv/app/x");
    assert_eq!((x.owner.as_deref(), x.group.as_deref(), x.mode), (Some("exact"), Some("near"), Some(0o600)));
    let y = done.file("/srv/y");
    assert_eq!((y.owner.as_deref(), y.mode), (Some("far"), Some(0o600)));
    assert_eq!(done.file("/srv/app").what, file::What::Directory);
    assert_eq!(done.file("/srv/app").owner.as_deref(), Some("far"), "/srv/app/** matches what is below only");
}

#[test]
fn every_form_of_a_file() {
    let manifest = r#"
[files."/etc/dir"]
type = "directory"
[files."/etc/link"]
type = "symlink"
target = "../x"
[files."/etc/inline"]
content = "a {{ b }}\n"
replace = "any"
group = 12
[files."/etc/crontab"]
attributes_only = true
mode = "600"
[files."/etc/gone"]
state = "absent"
replace = "directory"
[files."/etc/here"]
type = "file"
content = ""
"#;
    let done = compiled(&[(HOST, manifest)]);
    assert_eq!(done.file("/etc/dir").mode, Some(0o755));
    assert_eq!(done.file("/etc/link").what, file::What::Symlink { target: "../x".into() });
    assert_eq!(done.content("/etc/inline"), "a {{ b }}\n");
    assert_eq!(done.file("/etc/inline").replace, file::Replace::Any);
    assert_eq!(done.file("/etc/inline").group.as_deref(), Some("12"));
    let crontab = done.file("/etc/crontab");
    assert_eq!((&crontab.what, crontab.owner.as_deref(), crontab.mode), (&file::What::Attributes, None, Some(0o600)));
    let gone = done.file("/etc/gone");
    assert_eq!((&gone.what, gone.owner.as_deref(), gone.mode), (&file::What::Absent, None, None));
    assert_eq!(done.content("/etc/here"), "");
}

#[test]
fn a_layer_overrides_what_it_includes_attribute_by_attribute() {
    let done = compiled(&[
        (
            HOST,
            "roles = ['web']\n[files.'/etc/a']\nmode = '0600'\n[packages]\nnginx = 'present'\n[files.'/etc/off']\nstate = 'absent'\n",
        ),
        ("roles/web/role.toml", "roles = ['base']\n[files.'/etc/a']\nowner = 'web'\n[packages]\nnginx = '1.22.*'\n"),
        ("roles/base/role.toml", "[files.'/etc/a']\nowner = 'base'\ngroup = 'base'\nmode = '0644'\n"),
        ("roles/base/files/etc/a", "base"),
        ("roles/web/files/etc/a.j2", "web on {{ facts.os.codename }}"),
        ("roles/base/files/etc/off.j2", "{{ vars.not_needed_since_overruled }}"),
    ]);
    let a = done.file("/etc/a");
    assert_eq!((a.owner.as_deref(), a.group.as_deref(), a.mode), (Some("web"), Some("base"), Some(0o600)));
    assert_eq!(done.content("/etc/a"), "web on bookworm");
    assert_eq!(done.wanted("file:/etc/a").layer, "roles/web");
    assert_eq!(done.file("/etc/off").what, file::What::Absent);
    let nginx = package::Spec::present(Version::Glob("1.22.*".into()), Downgrade::Intended);
    assert_eq!(*done.package("nginx"), nginx, "present beside a version is the version");
    assert_eq!(done.wanted("package:nginx").layer, "roles/web");
    assert_eq!(done.roles, ["base", "web"]);
}

#[test]
fn siblings_may_agree_and_watch_lists_unite() {
    let done = compiled(&[
        (HOST, "roles = ['a', 'b']\n[units.'x.service']\nwatch = ['/etc/x/c']\n"),
        (
            "roles/a/role.toml",
            "[vars]\np = 1\n[packages]\ncurl = '8.1-1'\n[units.'x.service']\nactive = true\nwatch = ['/etc/x/*']\n",
        ),
        (
            "roles/b/role.toml",
            "[vars]\np = 1\n[packages]\ncurl = 'present'\n[units.'x.service']\nactive = true\nwatch = ['/var/run/x']\n",
        ),
        ("roles/a/files/etc/x/c", "same"),
        ("roles/b/files/etc/x/c", "same"),
    ]);
    assert_eq!(done.unit("x.service").watch, ["/etc/x/*", "/etc/x/c", "/run/x"]);
    assert_eq!(done.content("/etc/x/c"), "same");
    assert!(matches!(done.package("curl"), package::Spec::Present { version: Version::Exact(v), .. } if v == "8.1-1"));
    assert_eq!(done.notes.len(), 1, "/var/run/x is watched and not declared: {:?}", done.notes);
}

#[test]
fn each_list_of_a_watch_table_unites_with_its_own() {
    let done = compiled(&[
        (HOST, "roles = ['a']\n[units.'x.service'.watch]\nrestart = ['/etc/x/a']\nreload = ['/etc/x/*']\n"),
        ("roles/a/role.toml", "[units.'x.service']\nwatch = { restart = ['/etc/x/b', '/etc/x/a'] }\n"),
        ("roles/a/files/etc/x/a", ""),
        ("roles/a/files/etc/x/b", ""),
    ]);
    let spec = done.unit("x.service");
    assert_eq!(spec.watch_restart, ["/etc/x/a", "/etc/x/b"]);
    assert_eq!((spec.watch_reload.as_slice(), spec.watch.len()), (&["/etc/x/*".to_owned()][..], 0));
    assert!(done.notes.is_empty(), "{:?}", done.notes);
}

#[test]
fn words_of_units() {
    let manifest = r#"
roles = ["r"]
[units]
"on.service" = "on"
"off.service" = "off"
"masked.service" = "masked"
"was-on.service" = "masked"
[units."long.service"]
enabled = false
on_change = "reload"
"#;
    let done = compiled(&[
        (HOST, manifest),
        ("roles/r/role.toml", "[units]\n'was-on.service' = 'on'\n'long.service' = 'on'\n"),
    ]);
    let state = |name: &str| {
        let spec = done.unit(name);
        (spec.enabled, spec.active, spec.masked)
    };
    assert_eq!(state("on.service"), (Some(true), Some(true), Some(false)));
    assert_eq!(state("off.service"), (Some(false), Some(false), None));
    assert_eq!(state("masked.service"), (None, None, Some(true)));
    assert_eq!(state("was-on.service"), (None, None, Some(true)), "masked overrules on as a whole");
    assert_eq!(state("long.service"), (Some(false), Some(true), Some(false)));
    assert_eq!(done.unit("long.service").on_change, OnChange::Reload);
}

#[test]
fn variables_merge_key_by_key() {
    let done = compiled(&[
        ("trueup.toml", "format = 1\n[vars]\na = 'fleet'\nb = 'fleet'\n[vars.t]\nx = 'fleet'\ny = 'fleet'\n"),
        (HOST, "roles = ['r']\n[vars]\nt.y = 'host'\nlist = [1, 'two', 2.5, true, 2026-01-02]\n"),
        ("roles/r/role.toml", "[vars]\nb = 'role'\nt.y = 'role'\nt.z = 'role'\n"),
        (
            "hosts/web-01/files/out.j2",
            "{{ vars.a }} {{ vars.b }} {{ vars.t.x }} {{ vars.t.y }} {{ vars.t.z }} {{ vars.list | join(',') }}",
        ),
    ]);
    assert_eq!(done.content("/out"), "fleet role fleet host role 1,two,2.5,True,2026-01-02");
}

#[test]
fn the_nearer_policy_wins_and_a_resource_has_its_own() {
    let files = [
        ("trueup.toml", "format = 1\n[policy]\ndrift = 'report'\nupdate = 'hold'\n[guard]\nmax_removals = 3\n"),
        (HOST, "roles = ['a', 'b']\n[packages]\nvim = { drift = 'ignore', release = 'leave' }\ngit = 'present'\n"),
        ("roles/a/role.toml", "[policy]\ndrift = 'correct'\n[packages]\ncurl = 'present'\n"),
        ("roles/b/role.toml", "[packages]\nless = 'absent'\n"),
    ];
    let done = compiled(&files);
    let drift = |done: &Compiled, id: &str| done.wanted(id).drift;
    assert_eq!(drift(&done, "package:git"), Drift::Report);
    assert_eq!(drift(&done, "package:less"), Drift::Report, "the policy of a sibling is not its own");
    assert_eq!(drift(&done, "package:curl"), Drift::Correct);
    assert_eq!(drift(&done, "package:vim"), Drift::Ignore);
    assert_eq!(done.wanted("package:vim").release, Release::Leave);
    assert_eq!((done.desired.update, done.desired.max_removals), (Some(Update::Hold), Some(3)));
    let mut over = files;
    over[1].1 = "roles = ['a', 'b']\n[policy]\ndrift = 'ignore'\nupdate = 'observe'\n";
    let done = compiled(&over);
    assert_eq!(drift(&done, "package:curl"), Drift::Ignore, "the host is nearest of all");
    assert_eq!(done.desired.update, Some(Update::Observe));
}

#[test]
fn conditions_choose_what_is_declared() {
    let manifest = r#"
roles = [{ role = "apt", when = "facts.os.family == 'debian'" }, { role = "dnf", when = "facts.os.family == 'redhat'" }]
[vars]
wanted = false
[packages]
a1 = { when = "vars.wanted" }
b1 = { when = "'apt' in host.roles" }
[units."c.service"]
active = true
when = "not vars.wanted"
[files."/etc/tree"]
when = "vars.wanted"
[files."/etc/inline"]
content = ""
when = "vars.wanted"
[files."/etc/*"]
mode = "0600"
when = "vars.wanted"
"#;
    let done = compiled(&[
        (HOST, manifest),
        ("hosts/web-01/files/etc/tree", "x"),
        ("hosts/web-01/files/etc/other", "x"),
        ("roles/apt/files/etc/apt", "x"),
        ("roles/dnf/files/etc/dnf.j2", "{{ vars.only_there }}"),
    ]);
    assert_eq!(done.ids(), ["file:/etc/apt", "file:/etc/other", "package:b1", "unit:c.service"]);
    assert_eq!(done.file("/etc/other").mode, Some(0o644));
    assert_eq!(done.roles, ["apt"]);
}

#[test]
fn raw_ships_suffixes_literally() {
    let done = compiled(&[
        (HOST, "[files.'/etc/a.j2']\nraw = true\nmode = '0600'\n[files.'/etc/keys/*']\nraw = true\n"),
        ("hosts/web-01/files/etc/a.j2", "{{ untouched }}"),
        ("hosts/web-01/files/etc/keys/k.age", "age"),
        ("hosts/web-01/files/etc/twice.j2.j2", "{{ '{{ host.name }}' }}"),
    ]);
    assert_eq!(done.ids(), ["file:/etc/a.j2", "file:/etc/keys/k.age", "file:/etc/twice"]);
    assert_eq!(done.content("/etc/a.j2"), "{{ untouched }}");
    assert_eq!(done.file("/etc/a.j2").mode, Some(0o600));
    assert_eq!(done.content("/etc/twice"), "web-01");
}

#[test]
fn setid_bits_need_the_hosts_own_leave() {
    let snapshot = repo(&[(HOST, "[files.'/usr/local/bin/x']\ncontent = ''\nmode = '4755'\n")]);
    let problems = compile(&snapshot, "web-01", &debian(), &Options::default()).expect_err("refused");
    assert_eq!(problems[0].reason, Some("setid"));
    let options = Options { setid: true, ..Options::default() };
    assert_eq!(
        compile(&snapshot, "web-01", &debian(), &options).expect("allowed").file("/usr/local/bin/x").mode,
        Some(0o4755)
    );
}

#[test]
fn two_names_of_one_path_in_two_layers_are_one_resource() {
    let done =
        compiled(&[(HOST, "roles = ['r']\n[files.'/var/run/x']\nmode = '0600'\n"), ("roles/r/files/run/x", "x")]);
    assert_eq!(done.ids(), ["file:/run/x"]);
    assert_eq!(done.file("/run/x").mode, Some(0o600));
}

#[test]
fn layers_are_asked_for_until_all_are_there() {
    let whole = repo(&[
        (HOST, "roles = ['a', 'gone']\n"),
        ("roles/a/role.toml", "roles = ['b']\n"),
        ("roles/b/role.toml", "roles = ['a']\n"),
        ("roles/c/role.toml", ""),
    ]);
    let mut snapshot = Snapshot { layers: BTreeSet::new(), entries: BTreeMap::new(), ..whole.clone() };
    let mut rounds = Vec::new();
    loop {
        let missing = missing_layers(&snapshot, "web-01");
        if missing.is_empty() {
            break;
        }
        for layer in &missing {
            snapshot.layers.insert(layer.clone());
            let inside = whole.entries.iter().filter(|(path, _)| path.starts_with(&format!("{layer}/")));
            snapshot.entries.extend(inside.map(|(path, entry)| (path.clone(), entry.clone())));
        }
        rounds.push(missing);
    }
    assert_eq!(rounds, [["hosts/web-01"], ["roles/a"], ["roles/b"]]);
    assert_eq!(missing_layers(&whole, "nobody"), Vec::<String>::new());
}

/// `count` roles, each including the next.
fn chain(count: usize) -> Vec<(String, String)> {
    (1..=count)
        .map(|i| {
            (
                format!("roles/r{i}/role.toml"),
                if i == count { String::new() } else { format!("roles = ['r{}']", i + 1) },
            )
        })
        .collect()
}

#[test]
fn git_does_not_end_the_agent() {
    for (word, said) in [
        ("'off'", &["disabled", "inactive"][..]),
        ("'masked'", &["masked"]),
        ("{ enabled = false }", &["disabled"]),
        ("{ active = false }", &["inactive"]),
    ] {
        for unit in ["trueup.service", "trueup-undo.timer", "trueup.socket", "trueup.path"] {
            let problems = try_compile(&repo(&[(HOST, &format!("[units]\n'{unit}' = {word}\n"))])).expect_err(word);
            let errors: Vec<&Problem> =
                problems.iter().filter(|problem| problem.reason == Some("self-trust")).collect();
            for said in said {
                let message = format!("`{unit}` is trueup's own and cannot be {said}");
                assert!(errors.iter().any(|problem| problem.message == message), "{problems:?}");
            }
        }
    }
    compiled(&[(HOST, "[units]\n'trueup.timer' = 'on'\n'true.service' = 'off'\n'trueup.target' = 'off'\n")]);
    let drop_in = [("hosts/web-01/units/trueup.service.d/x.conf", "")];
    assert!(errors(&drop_in)[0].contains("trueup's own trueup.service"));
}

#[test]
fn roles_are_at_most_thirty_two_deep() {
    for (count, fits) in [(31, true), (32, true), (33, false), (40, false)] {
        let roles = chain(count);
        let mut files: Vec<(&str, &str)> = roles.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        files.push((HOST, "roles = ['r1']"));
        let result = try_compile(&repo(&files));
        assert_eq!(result.is_ok(), fits, "{count}");
        if let Err(problems) = result {
            assert!(problems[0].message.contains("at most 32 deep"), "{problems:?}");
        }
    }
}

#[test]
fn limits_of_size_hold_at_their_edge() {
    let with = |path: &str, entry: Entry| {
        let mut snapshot = repo(&[]);
        snapshot.entries.insert(path.to_owned(), entry);
        try_compile(&snapshot).map(|_| ()).map_err(|problems| problems[0].message.clone())
    };
    let zeros = |size: usize| Entry::File { content: vec![b'#'; size].into(), executable: false };
    let file = "hosts/web-01/files/etc/big";
    assert_eq!(with(file, zeros(16 << 20)), Ok(()));
    assert!(with(file, zeros((16 << 20) + 1)).expect_err("over").contains("16777217"));
    assert!(with(file, Entry::TooLarge { size: 99_999_999 }).expect_err("over").contains("99999999"));
    assert_eq!(with(HOST, zeros(1 << 20)), Ok(()));
    assert!(with(HOST, zeros((1 << 20) + 1)).expect_err("over").contains("1048577"));
    assert!(with(HOST, Entry::TooLarge { size: 20_000_000 }).expect_err("over").contains("20000000"));
    assert!(with(HOST, Entry::Symlink { target: b"x"[..].into() }).expect_err("a link").contains("regular file"));
    assert!(
        with(HOST, Entry::File { content: b"a = '\xff'".as_slice().into(), executable: false })
            .expect_err("bytes")
            .contains("UTF-8")
    );
    assert!(with(file, Entry::Submodule).expect_err("a submodule").contains("submodule"));
    for (why, said) in [(BadName::NotUtf8, "is not UTF-8"), (BadName::Control, "holds a control character")] {
        assert_eq!(with(file, Entry::BadName(why)).expect_err("a name"), format!("this name {said}"));
    }
    assert!(with(file, Entry::Symlink { target: b"a\0b"[..].into() }).expect_err("NUL").contains("control"));
    assert!(with(file, Entry::Symlink { target: b"\xff"[..].into() }).expect_err("bytes").contains("UTF-8"));
    assert!(with(file, Entry::Symlink { target: Vec::new().into() }).expect_err("empty").contains("empty"));
    let long = format!("hosts/web-01/files/{}x", "d/".repeat(2_047));
    assert_eq!(with(&long, zeros(1)), Ok(()));
    assert!(with(&format!("{long}y"), zeros(1)).expect_err("over").contains("4097"));
}

#[test]
fn a_host_has_at_most_twenty_thousand_resources() {
    for (count, fits) in [(20_000, true), (20_001, false)] {
        let mut snapshot = repo(&[(HOST, "[files.'/srv/**']\nowner = 'app'\n")]);
        for i in 0..count {
            snapshot.entries.insert(format!("hosts/web-01/files/srv/{i}"), text("x"));
        }
        let result = try_compile(&snapshot);
        assert_eq!(result.is_ok(), fits, "{count}");
        if let Err(problems) = result {
            assert_eq!(problems[0].message, "a host has at most 20000 resources; this one has 20001");
        }
    }
}

#[test]
fn facts_are_assumed_off_the_host() {
    let snapshot = repo(&[
        (
            HOST,
            "roles = ['r', { role = 'deb', when = \"facts.os.id == 'debian'\" }]\n[facts]\nfqdn = 'web-01.example.org'\n",
        ),
        ("roles/r/role.toml", "[facts]\nos = 'debian:12'\nfqdn = 'overruled'\n"),
        ("roles/deb/role.toml", "[facts]\narch = 'x86_64'\ncpus = 4\nmemory_mib = 2048\n"),
    ]);
    let facts = assumed_facts(&snapshot, "web-01");
    let os =
        Os { id: "debian".into(), family: Some(Family::Debian), version: "12".into(), codename: "bookworm".into() };
    assert_eq!(facts.os, Some(os));
    assert_eq!(facts.fqdn.as_deref(), Some("web-01.example.org"));
    assert_eq!((facts.arch.as_deref(), facts.cpus, facts.memory_mib), (Some("x86_64"), Some(4), Some(2048)));
    assert_eq!(facts.hostname, None);
    let elsewhere = Facts { hostname: Some("web-01".into()), ..facts };
    let on_host = Options { on_host: true, ..Options::default() };
    assert!(compile(&snapshot, "web-01", &elsewhere, &on_host).is_ok());
    let problems =
        compile(&snapshot, "web-01", &Facts { cpus: Some(8), ..elsewhere }, &on_host).expect_err("a mismatch");
    assert_eq!(problems[0].reason, Some("facts-mismatch"));
}

#[test]
fn the_pin_is_handed_over() {
    let done = compiled(&[(HOST, "machine_id = '5b1f8d7c0a2e4e6f9b3c1d2a7f8e9012'\n")]);
    assert_eq!(done.machine_id.as_deref(), Some("5b1f8d7c0a2e4e6f9b3c1d2a7f8e9012"));
    assert!(done.desired.resources.is_empty());
}

#[test]
fn compiling_twice_gives_the_same() {
    let files = [
        (HOST, "roles = ['r']\n[vars]\na = { z = 1, b = 2 }\n[packages]\ncurl = '1.*'\n"),
        ("roles/r/files/etc/x.j2", "{{ vars.a }}{% for k in vars.a %}{{ k }}{% endfor %}"),
    ];
    let (one, other) = (compiled(&files), compiled(&files));
    assert_eq!(one.desired, other.desired);
    assert_eq!(one.payloads.pack_name(), other.payloads.pack_name());
}

#[test]
fn a_mistake_hides_no_other() {
    let told = errors(&[
        (
            HOST,
            "roles = ['nix']\nbad = 1\n[packages]\nX = 'latest'\n[files.'/proc/x']\ncontent = ''\n[units]\nnginx = 'on'\n",
        ),
        ("hosts/web-01/files/etc/a.j2", "{{ vars.nix }}"),
        ("hosts/web-01/files/etc/b.age", ""),
    ]);
    assert_eq!(told.len(), 7, "{told:#?}");
}

const MANIFEST: &str = include_str!("../../tests/cases/manifest.toml");

#[test]
fn the_whole_format_is_understood() {
    let (_, problems, whole) = parse_layer("host.toml", MANIFEST, LayerKind::Host);
    let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
    assert!(whole && errors.is_empty(), "{errors:#?}");
}

/// The manifest with some of its bytes replaced, taken out or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::sample::select(b"\0\n\"'[]{}=.,#\\ax0-\xff\xe2*".to_vec());
    let edit = (0..MANIFEST.len(), 0..3_u8, bytes, 1..40_usize);
    prop::collection::vec(edit, 1..12).prop_map(|edits| {
        let mut text = MANIFEST.as_bytes().to_vec();
        for (at, what, byte, length) in edits {
            let at = at % text.len();
            let end = (at + length).min(text.len());
            match what {
                0 => text[at] = byte,
                1 => drop(text.drain(at..end)),
                _ => text = [&text[..end], &text[at..]].concat(),
            }
            if text.is_empty() {
                text.push(byte);
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_manifest_makes_it_panic(bytes in mutated()) {
        let mut snapshot = repo(&[("roles/base/role.toml", ""), ("roles/web/role.toml", ""), ("roles/apt/role.toml", "")]);
        let content: std::sync::Arc<[u8]> = bytes.into();
        for path in [HOST, "roles/web/role.toml", "trueup.toml"] {
            let entry = Entry::File { content: std::sync::Arc::clone(&content), executable: false };
            let before = snapshot.entries.insert(path.to_owned(), entry);
            let problems = match compile(&snapshot, "web-01", &assumed_facts(&snapshot, "web-01"), &Options::default()) {
                Ok(compiled) => compiled.notes,
                Err(problems) => problems,
            };
            let shown = render(&problems, text_of(&snapshot), false);
            prop_assert!(!shown.contains(0x1b as char), "steers a terminal");
            if let Some(before) = before {
                snapshot.entries.insert(path.to_owned(), before);
            }
        }
        if let Ok(text) = std::str::from_utf8(&content) {
            parse_layer("x", text, LayerKind::Role);
            parse_fleet("x", text);
        }
    }

    #[test]
    fn no_path_escapes_its_name(path in "[/.a-c\\x00-\\x1f\u{80}-\u{a0} ]{0,40}") {
        if let Ok(canonical) = paths::canonical(&path) {
            prop_assert!(canonical.starts_with('/') && canonical.len() > 1);
            prop_assert!(canonical[1..].split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            prop_assert_eq!(paths::canonical(&canonical), Ok(canonical.clone()), "one name stays one");
        }
    }
}

#[test]
fn what_templates_come_to_is_bounded_in_sum() {
    let host = format!("[vars]\nbig = \"{}\"\n", "x".repeat(1_000_000));
    let template = |n: usize| (format!("hosts/web-01/files/etc/{n}.j2"), format!("{n}{}", "{{ vars.big }}".repeat(16)));
    let templates: Vec<(String, String)> = (0..34).map(template).collect();
    let files = |count: usize| {
        let templates = templates[..count].iter().map(|(path, text)| (path.as_str(), text.as_str()));
        [("trueup.toml", "format = 1\n"), ("hosts/web-01/host.toml", host.as_str())]
            .into_iter()
            .chain(templates)
            .collect()
    };
    let fits: Vec<(&str, &str)> = files(33);
    assert_eq!(compiled(&fits).payloads.len(), 33);
    let over: Vec<(&str, &str)> = files(34);
    let told = errors(&over);
    assert!(told.len() == 1 && told[0].contains("536870912 bytes together"), "{told:?}");
}

const CHECKS: &str = "[checks.web]\nhttp = \"http://127.0.0.1:8080/healthz\"\ntimeout = \"1500ms\"\n[checks.ssh]\ntcp = \"[::1]:22\"\nwhen = \"facts.os.family == 'redhat'\"\n[checks.app]\ncommand = [\"/bin/true\", \"\"]\nuser = \"nobody\"\n";

#[test]
fn checks_are_wanted_of_a_host_where_their_condition_holds() {
    let done = compiled(&[(HOST, CHECKS)]);
    let names: Vec<&str> = done.desired.checks.keys().map(String::as_str).collect();
    assert_eq!(names, ["app", "web"]);
    let app = Probe::Command { line: vec!["/bin/true".into(), String::new()], user: Some("nobody".into()) };
    assert_eq!(done.desired.checks["app"].probe, app);
    assert_eq!(done.desired.checks["app"].timeout(), Check::TIMEOUT);
    let web = &done.desired.checks["web"];
    assert_eq!(web.describe(), "http http://127.0.0.1:8080/healthz, within 1500 ms");
    assert_eq!(web.layer, "hosts/web-01");
}

#[test]
fn the_nearer_layer_says_what_a_check_asks_and_two_that_are_apart_may_not_contradict_each_other() {
    let role = |port: u16| format!("[checks.web]\ntcp = \"127.0.0.1:{port}\"\ntimeout = \"2s\"\n");
    let (a, b) = (role(80), role(81));
    let both = [("roles/a/role.toml", a.as_str()), ("roles/b/role.toml", b.as_str())];
    let host = |text: &'static str| [(HOST, text)].into_iter().chain(both).collect::<Vec<_>>();
    let said = errors(&host("roles = [\"a\", \"b\"]\n"));
    assert_eq!(
        said,
        ["the check `web` is tcp 127.0.0.1:80 in roles/a/role.toml:2 and tcp 127.0.0.1:81 in roles/b/role.toml:2"]
    );
    let done = compiled(&host("roles = [\"a\", \"b\"]\n[checks.web]\ntcp = \"127.0.0.1:82\"\n"));
    assert_eq!(done.desired.checks["web"].describe(), "tcp 127.0.0.1:82, within 2 s");
}

#[test]
fn what_was_stored_before_there_were_checks_is_still_read() {
    let before = r#"{"host": "web-01", "resources": {}, "update": null, "max_removals": null}"#;
    let desired: Desired = serde_json::from_str(before).expect("read");
    assert!(desired.checks.is_empty());
    assert_eq!(serde_json::to_value(&desired).expect("written").get("checks"), None);
    let stored = serde_json::to_string(&compiled(&[(HOST, CHECKS)]).desired).expect("written");
    let read: Desired = serde_json::from_str(&stored).expect("read");
    assert_eq!(read.checks.len(), 2);
}

#[test]
fn a_check_that_cannot_be_asked_is_a_mistake() {
    for (check, wrong) in [
        ("http = \"ftp://x/\"", "must be a URL that starts with"),
        ("http = \"http://u:p@x/\"", "must not have a login in it"),
        ("http = \"http://x:0/\"", "must be a URL such as"),
        ("http = \"http://\"", "must be a URL such as"),
        ("http = \"http://x/a b\"", "must be a URL such as"),
        ("tcp = \"127.0.0.1\"", "must be an address and a port"),
        ("tcp = \"127.0.0.1:1\"\nuser = \"nobody\"", "`user` is for a `command`"),
        ("command = []", "`command` is empty"),
        ("tcp = \"a:1\"\ncommand = [\"x\"]", "must have one of"),
        ("timeout = \"1s\"", "must have one of"),
        ("tcp = \"a:1\"\ntimeout = \"0s\"", "more than nothing"),
        ("tcp = \"a:1\"\ntimeout = \"301s\"", "at most 5 minutes"),
        ("tcp = \"a:1\"\ntimeout = \"1x\"", "must be a duration"),
        ("tcp = \"a:1\"\nretries = 3", "unknown key"),
    ] {
        let said = errors(&[(HOST, &format!("[checks.web]\n{check}\n"))]);
        assert!(said.iter().any(|said| said.contains(wrong)), "{check}: {said:?}");
    }
    assert!(errors(&[(HOST, "[checks.\"a b\"]\ntcp = \"a:1\"\n")])[0].contains("cannot be called"));
    let many = |count: usize| (0..count).map(|n| format!("[checks.c{n}]\ntcp = \"a:1\"\n")).collect::<String>();
    assert_eq!(compiled(&[(HOST, &many(64))]).desired.checks.len(), 64);
    assert_eq!(errors(&[(HOST, &many(65))]), ["a host has at most 64 checks; this one has 65"]);
}
