//! Templates and conditions: minijinja, strict, and blind to everything but variables, the host's name and its facts.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::deep::{NoStack, deep};
use super::tags;
use crate::manifest::{Var, Vars, nearest};
use crate::model::{Facts, one_line};

/// The most bytes that a template may become.
pub(super) const RENDERED_LIMIT: usize = 16 << 20;

/// The most bytes of a condition.
const WHEN_LIMIT: usize = 4 << 10;

/// Steps of one template or condition; each loop turn and each operation is some. None adds more than one level to a
/// value, so this is also how deeply values are nested at most.
const FUEL: u64 = 500_000;

/// What may be said in conditions and templates of one host.
pub(super) struct Scope {
    environment: Environment<'static>,
    vars: BTreeMap<String, Tree>,
    facts: BTreeMap<String, Tree>,
    host: BTreeMap<String, Tree>,
}

/// Why a condition or template could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub message: String,
    pub hint: Option<String>,
    /// Which bytes of the source, where that is known.
    pub span: Option<Range<usize>>,
}

impl Trouble {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, span: None }
    }
}

impl From<NoStack> for Trouble {
    fn from(NoStack: NoStack) -> Self {
        Self::new("this host has no address space left to evaluate this in")
    }
}

/// A name's value: a value, more names, or nothing that is known.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(Value),
    Branch(BTreeMap<String, Tree>),
    /// It is a name, but not here; the text says why.
    Unknown(&'static str),
}

impl Scope {
    /// For conditions of roles: `host.roles` is not known yet, and `vars` are those of `trueup.toml` and the host.
    pub fn for_roles(vars: &Vars, host: &str, facts: &Facts) -> Self {
        const NOT_YET: &str = "the roles are what is being decided";
        Self::new(vars, host, Tree::Unknown(NOT_YET), facts)
    }

    /// For everything else.
    pub fn for_resources(vars: &Vars, host: &str, roles: &[String], facts: &Facts) -> Self {
        Self::new(vars, host, Tree::Leaf(roles.iter().map(String::as_str).collect()), facts)
    }

    fn new(vars: &Vars, host: &str, roles: Tree, facts: &Facts) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_debug(false);
        environment.remove_global("debug");
        // It is for looking into values while a template is written, and takes a square of their depth.
        environment.remove_filter("pprint");
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.expect("the default delimiters are valid"));
        let host = [("name".to_owned(), Tree::Leaf(host.into())), ("roles".to_owned(), roles)];
        Self { environment, vars: branch(vars), facts: of_facts(facts), host: host.into() }
    }

    /// Whether the condition `source` holds.
    pub fn holds(&self, source: &str) -> Result<bool, Trouble> {
        if source.len() > WHEN_LIMIT {
            return Err(Trouble::new(format!(
                "a condition has at most {WHEN_LIMIT} bytes (4 KiB); this one has {}",
                source.len()
            )));
        }
        deep(|| self.judge(source))?
    }

    fn judge(&self, source: &str) -> Result<bool, Trouble> {
        let result = self
            .environment
            .compile_expression_owned(source.to_owned())
            .and_then(|expression| expression.eval(self.context(source)));
        let value = result.map_err(|error| {
            let trouble = self.trouble(&error, source);
            let hint = trouble.hint.or_else(|| Some("a condition reads like facts.os.family == 'debian'".to_owned()));
            Trouble { hint, ..trouble }
        })?;
        if value.is_undefined() {
            let name = source.trim();
            return Err(self.undefined(name, None));
        }
        bool::try_from(value.clone()).ok().filter(|_| value.kind() == minijinja::value::ValueKind::Bool).ok_or_else(
            || Trouble {
                message: format!("a condition is true or false; this one is {}", article(&value.kind().to_string())),
                hint: Some("compare it with something: facts.os.family == 'debian'".to_owned()),
                span: None,
            },
        )
    }

    /// The text that the template `source` becomes. `name` is for its own error messages.
    pub fn render(&self, name: &str, source: &str) -> Result<Vec<u8>, Trouble> {
        match tags::refused(source) {
            Some(why) => Err(Trouble::new(why)),
            None => deep(|| self.write(name, source))?,
        }
    }

    fn write(&self, name: &str, source: &str) -> Result<Vec<u8>, Trouble> {
        let mut out = Bounded(Vec::new());
        let result = self
            .environment
            .template_from_named_str(name, source)
            .and_then(|template| template.render_captured_to(self.context(source), &mut out).map(drop));
        match result {
            Ok(()) => Ok(out.0),
            Err(_) if out.0.len() > RENDERED_LIMIT => Err(Trouble {
                message: format!(
                    "this template becomes more than {RENDERED_LIMIT} bytes (16 MiB), the most that a file may have"
                ),
                hint: None,
                span: None,
            }),
            Err(error) => Err(self.trouble(&error, source)),
        }
    }

    fn context(&self, source: &str) -> Value {
        let source: Arc<str> = source.into();
        let names = [("vars", &self.vars), ("host", &self.host), ("facts", &self.facts)];
        names
            .into_iter()
            .map(|(name, names)| (name.to_owned(), value_of(name, names, &source)))
            .collect::<BTreeMap<_, _>>()
            .into()
    }

    /// An error of the engine in words that name what is missing, and no value.
    fn trouble(&self, error: &Error, source: &str) -> Trouble {
        let span = error.range().filter(|range| range.end <= source.len() && !range.is_empty());
        let span = span.or_else(|| error.line().and_then(|line| line_span(source, line)));
        let text = span.clone().and_then(|span| source.get(span)).unwrap_or_default();
        let detail = error.detail().unwrap_or_default();
        match error.kind() {
            ErrorKind::UndefinedError if detail.starts_with(UNKNOWN) => {
                let (name, why) = detail[UNKNOWN.len()..].split_once('\n').unwrap_or((detail, ""));
                if why.is_empty() {
                    return self.undefined(name, span);
                }
                Trouble {
                    message: format!("`{}` is not known here: {why}", one_line(name, 100)),
                    hint: hint_for(name),
                    span,
                }
            }
            ErrorKind::UndefinedError => self.undefined(text.trim_matches(['{', '}', ' ', '-']), span),
            ErrorKind::OutOfFuel => Trouble {
                message: format!("this takes more than {FUEL} steps"),
                hint: Some("look for a loop over too much".to_owned()),
                span,
            },
            ErrorKind::TemplateNotFound => {
                Trouble { message: "a template cannot include, import or extend another".to_owned(), hint: None, span }
            }
            kind => {
                let what = if detail.is_empty() { kind.to_string() } else { format!("{kind}: {detail}") };
                Trouble { message: one_line(&what, 300), hint: None, span }
            }
        }
    }

    fn undefined(&self, name: &str, span: Option<Range<usize>>) -> Trouble {
        let known = self.names();
        let hint = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "names start with vars., host. or facts.; a variable is given in [vars]".to_owned(),
        };
        Trouble { message: format!("`{}` is not defined", one_line(name, 100)), hint: Some(hint), span }
    }

    /// Every name that has a value, for hints.
    fn names(&self) -> Vec<String> {
        fn collect(prefix: &str, names: &BTreeMap<String, Tree>, into: &mut Vec<String>) {
            for (name, tree) in names {
                let name = format!("{prefix}.{name}");
                match tree {
                    Tree::Branch(below) => collect(&name, below, into),
                    Tree::Leaf(_) => into.push(name),
                    Tree::Unknown(_) => {}
                }
            }
        }
        let mut names = Vec::new();
        collect("vars", &self.vars, &mut names);
        collect("host", &self.host, &mut names);
        collect("facts", &self.facts, &mut names);
        names
    }
}

fn hint_for(name: &str) -> Option<String> {
    let fact = name.strip_prefix("facts.")?;
    let given = if fact.starts_with("os") { "os = \"debian:12\"".to_owned() } else { format!("{fact} = …") };
    Some(format!("say it in [facts] of the host ({given}), or give --facts FILE"))
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

fn line_span(source: &str, line: usize) -> Option<Range<usize>> {
    let start = if line <= 1 { 0 } else { source.match_indices('\n').nth(line - 2)?.0 + 1 };
    let end = source[start..].find('\n').map_or(source.len(), |newline| start + newline);
    (start < end).then_some(start..end)
}

fn branch(vars: &Vars) -> BTreeMap<String, Tree> {
    let tree = |var: &Var| match var {
        Var::Table(vars) => Tree::Branch(branch(vars)),
        other => Tree::Leaf(leaf(other)),
    };
    vars.0.iter().map(|(name, entry)| (name.clone(), tree(&entry.value))).collect()
}

fn leaf(var: &Var) -> Value {
    match var {
        Var::Text(text) => text.as_str().into(),
        Var::Integer(number) => (*number).into(),
        Var::Float(number) => (*number).into(),
        Var::Boolean(flag) => (*flag).into(),
        Var::Array(array) => array.iter().map(leaf).collect(),
        Var::Table(vars) => {
            vars.0.iter().map(|(name, entry)| (name.clone(), leaf(&entry.value))).collect::<BTreeMap<_, _>>().into()
        }
    }
}

fn of_facts(facts: &Facts) -> BTreeMap<String, Tree> {
    fn fact<T: Into<Value>>(value: Option<T>) -> Tree {
        value.map_or(Tree::Unknown("nobody said which it is"), |value| Tree::Leaf(value.into()))
    }
    let os = facts.os.as_ref();
    let os = BTreeMap::from([
        ("id".to_owned(), fact(os.map(|os| os.id.as_str()))),
        ("family".to_owned(), fact(os.and_then(|os| os.family).map(|family| family.as_str()))),
        ("version".to_owned(), fact(os.map(|os| os.version.as_str()))),
        ("codename".to_owned(), fact(os.map(|os| os.codename.as_str()))),
    ]);
    BTreeMap::from([
        ("os".to_owned(), Tree::Branch(os)),
        ("arch".to_owned(), fact(facts.arch.as_deref())),
        ("hostname".to_owned(), fact(facts.hostname.as_deref())),
        ("fqdn".to_owned(), fact(facts.fqdn.as_deref())),
        ("machine_id".to_owned(), fact(facts.machine_id.as_deref())),
        ("cpus".to_owned(), fact(facts.cpus)),
        ("memory_mib".to_owned(), fact(facts.memory_mib)),
    ])
}

/// Starts the detail of an error about a name without a value; the name follows, then a line with why, if any.
const UNKNOWN: &str = "unknown name ";

/// A table of names. The engine by itself lets an undefined name be compared (`vars.typo == 'x'` is false); here a
/// name without a value is an error wherever it is used, unless the source asks first (`is defined`, `default`).
#[derive(Debug)]
struct Names {
    path: String,
    values: BTreeMap<String, Value>,
    unknown: BTreeMap<String, &'static str>,
    source: Arc<str>,
}

fn value_of(path: &str, names: &BTreeMap<String, Tree>, source: &Arc<str>) -> Value {
    let mut values = BTreeMap::new();
    let mut unknown = BTreeMap::new();
    for (name, tree) in names {
        match tree {
            Tree::Leaf(value) => drop(values.insert(name.clone(), value.clone())),
            Tree::Branch(below) => {
                drop(values.insert(name.clone(), value_of(&format!("{path}.{name}"), below, source)))
            }
            Tree::Unknown(why) => drop(unknown.insert(name.clone(), *why)),
        }
    }
    Value::from_object(Names { path: path.to_owned(), values, unknown, source: Arc::clone(source) })
}

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        if let Some(value) = self.values.get(key) {
            return Some(value.clone());
        }
        let name = format!("{}.{key}", self.path);
        if asked_first(&self.source, &name) {
            return None;
        }
        let why = self.unknown.get(key).copied().unwrap_or_default();
        Some(Error::new(ErrorKind::UndefinedError, format!("{UNKNOWN}{name}\n{why}")).into())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.values.keys().map(|key| Value::from(key.as_str())).collect())
    }
}

/// Whether `source` asks somewhere if `name` has a value: `name is …`, `name | default(…)`.
fn asked_first(source: &str, name: &str) -> bool {
    source.match_indices(name).any(|(at, _)| {
        let rest = source[at + name.len()..].trim_start();
        let filter = rest.strip_prefix('|').map(str::trim_start);
        let word = |text: &str, word: &str| {
            text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        word(rest, "is") || filter.is_some_and(|filter| word(filter, "default") || word(filter, "d"))
    })
}

/// Collects what is written, and refuses what is too much.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(&bytes[..bytes.len().min(RENDERED_LIMIT + 1 - self.0.len().min(RENDERED_LIMIT))]);
        match self.0.len() > RENDERED_LIMIT {
            true => Err(io::Error::other("too much")),
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{LayerKind, parse_layer};
    use crate::model::{Family, Os};

    fn scope() -> Scope {
        let text = "[vars]\nport = 8080\nname = \"<a>\"\nlist = [1, 2]\nwide = \"x\"\n[vars.ntp]\nserver = \"ntp.example.org\"\n";
        let (layer, problems, _) = parse_layer("x", text, LayerKind::Host);
        assert_eq!(problems, []);
        let os =
            Os { id: "debian".into(), family: Some(Family::Debian), version: "12".into(), codename: "bookworm".into() };
        let facts = Facts { os: Some(os), cpus: Some(4), ..Facts::default() };
        Scope::for_resources(&layer.vars, "web-01", &["base".to_owned(), "web".to_owned()], &facts)
    }

    fn render(source: &str) -> Result<String, Trouble> {
        scope().render("x.j2", source).map(|bytes| String::from_utf8(bytes).expect("templates are text"))
    }

    fn wrong(source: &str) -> Trouble {
        render(source).expect_err(source)
    }

    #[test]
    fn a_template_sees_variables_the_host_and_its_facts() {
        assert_eq!(render("listen {{ vars.port }}\n").as_deref(), Ok("listen 8080\n"));
        assert_eq!(render("{{ vars.ntp.server }} {{ vars.name }}").as_deref(), Ok("ntp.example.org <a>"));
        assert_eq!(
            render("{{ host.name }} {{ facts.os.codename }} {{ facts.cpus * 2 }}\n\n").as_deref(),
            Ok("web-01 bookworm 8\n\n")
        );
        assert_eq!(render("{% for r in host.roles %}{{ r }},{% endfor %}").as_deref(), Ok("base,web,"));
        assert_eq!(
            render("{% for k, v in vars.ntp|items %}{{ k }}={{ v }}{% endfor %}").as_deref(),
            Ok("server=ntp.example.org")
        );
        assert_eq!(render("").as_deref(), Ok(""));
    }

    #[test]
    fn what_is_undefined_is_an_error_that_names_it() {
        let trouble = wrong("a\nb {{ vars.prot }}");
        assert_eq!(trouble.message, "`vars.prot` is not defined");
        assert_eq!(trouble.hint.as_deref(), Some("did you mean `vars.port`?"));
        assert_eq!(trouble.span.map(|span| span.start >= 2), Some(true));
        assert_eq!(wrong("{% if vars.typo == 'x' %}{% endif %}").message, "`vars.typo` is not defined");
        assert_eq!(wrong("{{ vars.ntp.sever }}").hint.as_deref(), Some("did you mean `vars.ntp.server`?"));
        assert_eq!(wrong("{{ port }}").message, "`port` is not defined");
        assert_eq!(wrong("{{ vars.nix.nada }}").message, "`vars.nix` is not defined");
    }

    #[test]
    fn a_template_may_ask_whether_something_is_defined() {
        assert_eq!(render("{{ vars.nix | default(3) }}{{ vars.nix|d(4) }}").as_deref(), Ok("34"));
        assert_eq!(render("{% if vars.nix is defined %}a{% else %}b{% endif %}").as_deref(), Ok("b"));
        assert_eq!(render("{% if facts.fqdn is defined %}a{% else %}b{% endif %}").as_deref(), Ok("b"));
        assert!(render("{{ vars.nix|dummy }}").is_err());
    }

    #[test]
    fn an_unknown_fact_is_told_with_what_to_do() {
        let trouble = scope().holds("facts.arch == 'x86_64'").expect_err("unknown");
        assert_eq!(trouble.message, "`facts.arch` is not known here: nobody said which it is");
        assert!(trouble.hint.expect("a hint").contains("--facts FILE"));
    }

    #[test]
    fn conditions_are_true_or_false() {
        assert_eq!(scope().holds("facts.os.family == 'debian' and 'web' in host.roles"), Ok(true));
        assert_eq!(scope().holds("not (vars.port > 9000 or facts.cpus < 2)"), Ok(true));
        assert_eq!(scope().holds("facts.os.version == '13'"), Ok(false));
        for (wrong, message) in [
            ("vars.port", "a condition is true or false; this one is a number"),
            ("'x'", "a condition is true or false; this one is a string"),
            ("none", "a condition is true or false; this one is a none"),
        ] {
            assert_eq!(scope().holds(wrong).expect_err(wrong).message, message);
        }
        assert!(scope().holds("vars.nix == 3").is_err());
        assert!(scope().holds("nix").expect_err("undefined").message.contains("`nix`"));
        assert!(scope().holds("a ==").expect_err("syntax").message.starts_with("syntax error"));
        assert!(scope().holds("").is_err());
    }

    #[test]
    fn a_role_cannot_depend_on_the_roles() {
        let scope = Scope::for_roles(&Vars::default(), "a", &Facts::default());
        assert!(
            scope
                .holds("'x' in host.roles")
                .expect_err("not yet")
                .message
                .contains("the roles are what is being decided")
        );
        assert_eq!(scope.holds("host.name == 'a'"), Ok(true));
    }

    #[test]
    fn loops_and_growth_end() {
        assert!(
            wrong("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}")
                .message
                .contains("steps")
        );
        let grown = wrong("{% for a in range(9000) %}{{ 'abcdefghij' * 1000 }}{% endfor %}");
        assert!(grown.message.contains("16777216") || grown.message.contains("steps"), "{grown:?}");
        assert!(render("{{ 'x' * 999999999999 }}").is_err());
        assert!(render(&"{% if true %}".repeat(20_000)).is_err());
        assert!(scope().holds(&"(".repeat(100_000)).is_err());
    }

    /// Each of these is as much as one tag, all tags or one condition may hold; longer ones are refused below.
    fn shapes(bytes: usize) -> Vec<String> {
        let chain = |first: &str, more: &str| format!("{first}{}", more.repeat((bytes - first.len()) / more.len()));
        let closed = |open: &str, inner: &str, close: &str| {
            let times = (bytes - inner.len()) / (open.len() + close.len());
            format!("{}{inner}{}", open.repeat(times), close.repeat(times))
        };
        let before = |prefix: &str, last: &str| prefix.repeat((bytes - last.len()) / prefix.len()) + last;
        vec![
            chain("true", " and true"),
            chain("true", " or true"),
            chain("1", "+1"),
            chain("1", "~1"),
            chain("1", "*1"),
            chain("1", "**1"),
            chain("1", "<1"),
            chain("1", "==1"),
            chain("x", ".a"),
            chain("x", "[1]"),
            chain("x", "[1:]"),
            chain("x", "()"),
            chain("'x'", "|e"),
            chain("1", " is odd"),
            chain("1", " if 1"),
            chain("1", " if 1 else 1"),
            chain("1", " in 1"),
            before("not ", "true"),
            before("-", "1"),
            before("1 if 1 else ", "1"),
            before("1 is eq-", "1"),
            closed("(", "1", ")"),
            closed("[", "1", "]"),
            closed("{1:", "1", "}"),
            closed("x(", "1", ")"),
            closed("x[", "1", "]"),
        ]
    }

    #[test]
    fn no_condition_is_too_deep() {
        for shape in shapes(WHEN_LIMIT) {
            // That it comes back is what is tested.
            let _ = scope().holds(&shape);
        }
        for shape in shapes(100_000) {
            let refused = scope().holds(&shape).expect_err("too long");
            assert!(
                refused.message.starts_with("a condition has at most 4096 bytes (4 KiB); this one has "),
                "{refused:?}"
            );
        }
        let padded = |length: usize| format!("{}true", " ".repeat(length - 4));
        assert_eq!(scope().holds(&padded(WHEN_LIMIT)), Ok(true));
        assert!(scope().holds(&padded(WHEN_LIMIT + 1)).is_err());
    }

    #[test]
    fn no_tag_is_too_deep() {
        for shape in shapes(tags::TAG_LIMIT) {
            let _ = render(&format!("{{{{ {shape} }}}}"));
            let _ = render(&format!("{{% set y = {} %}}", &shape[8..]));
            let _ = render(&format!("{{% if {} %}}{{% endif %}}", &shape[8..]));
        }
        for (open, close) in [("set ", "=1"), ("for ", " in [1]"), ("with ", "=1")] {
            let times = tags::TAG_LIMIT / 2 - 8;
            let _ = render(&format!("{{% {open}{}x{}{close} %}}", "(".repeat(times), ")".repeat(times)));
        }
        for shape in shapes(100_000) {
            let refused = wrong(&format!("{{{{ {shape} }}}}"));
            assert!(refused.message.contains("at most 8192 bytes"), "{}…: {refused:?}", &shape[..20]);
        }
    }

    #[test]
    fn no_number_of_tags_is_too_deep() {
        let times = tags::TAGS_LIMIT - 2;
        for (first, tag, last) in [
            ("{% if 0 %}", "{% elif 0 %}", "{% endif %}"),
            ("{% if 1 %}", "{% else %}", ""),
            ("", "{% if 1 %}", ""),
            ("", "{% for x in [1] %}", ""),
            ("", "{% with %}", ""),
            ("", "{% filter upper %}", ""),
            ("", "{% set x %}", ""),
            ("", "{% macro x() %}", ""),
            ("", "{% call x() %}", ""),
            ("", "{% autoescape true %}", ""),
            ("{% set x = [] %}", "{% set x = [[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]] %}", "{{ x }}"),
            ("{% set x = [] %}", "{% set x = x|map('upper') %}", "{{ x|list }}"),
            ("{% set x = [] %}", "{% set x = x + (x|map('upper')) %}", ""),
            ("{% set x = {} %}", "{% set x = {1: x} %}", "{{ x == x }}"),
        ] {
            let _ = render(&format!("{first}{}{last}", tag.repeat(times)));
            let refused = wrong(&format!("{first}{}{last}", tag.repeat(times + 3)));
            assert!(refused.message.contains("at most 10000 tags"), "{tag}: {refused:?}");
        }
        assert_eq!(render(&format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(times))).as_deref(), Ok(""));
    }

    #[test]
    fn no_value_is_too_deep() {
        let nested = |open: &str, close: &str, times: usize, last: &str| {
            let (open, close) = (open.repeat(60), close.repeat(60));
            format!(
                "{{% set n = namespace(x=[]) %}}{{% for i in range({times}) %}}{{% set n.x = {open}n.x{close} %}}\
                 {{% endfor %}}{last}"
            )
        };
        for (open, close) in [("[", "]"), ("{1:", "}"), ("dict(a=", ")")] {
            for last in ["", "{{ n.x }}", "{{ n.x == n.x }}", "{{ n.x < [n.x] }}", "{{ {n.x: 1}|length }}"] {
                // Up to where the steps are used up.
                for times in [1_000, 4_000, 99_999] {
                    let _ = render(&nested(open, close, times, last));
                }
            }
        }
        assert_eq!(render(&nested("[", "]", 1_000, "{{ n.x|length }}")).as_deref(), Ok("1"));
        let endless = "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}";
        assert!(render(endless).is_err());
        assert!(render("{% for x in [1] recursive %}{{ loop([[x]]) }}{% endfor %}").is_err());
    }

    #[test]
    fn nothing_else_of_the_world_is_seen() {
        assert!(wrong("{% include 'x.j2' %}").message.contains("cannot include"));
        assert!(wrong("{{ debug() }}").message.contains("unknown function"));
        for source in ["{{ now() }}", "{{ env('HOME') }}", "{{ random() }}"] {
            assert!(render(source).is_err(), "{source}");
        }
    }
}
