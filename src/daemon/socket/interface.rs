//! `io.trueup.Agent` as others read it: `varlinkctl introspect /run/trueup/trueup.sock`.

use zlink::idl::{Comment, CustomObject, CustomType, Interface, Method, Parameter, Type, TypeRef};
use zlink::introspect::ReplyError as _;
use zlink::varlink_service::{DESCRIPTION, Info};

use super::wire::{Fault, INTERFACE};

const INT: &Type<'static> = &Type::Int;
const TEXT: &Type<'static> = &Type::String;
const OBJECT: &Type<'static> = &Type::ForeignObject;
const MAYBE_INT: &Type<'static> = &Type::Optional(TypeRef::new(INT));
const MAYBE_TEXT: &Type<'static> = &Type::Optional(TypeRef::new(TEXT));
const MAYBE_OBJECT: &Type<'static> = &Type::Optional(TypeRef::new(OBJECT));
const TEXTS: &Type<'static> = &Type::Array(TypeRef::new(TEXT));

/// A name and its type.
type Named = (&'static str, Type<'static>);

/// What `GetInfo` gives.
pub(super) fn info() -> Info<'static> {
    let interfaces = [INTERFACE, "org.varlink.service"];
    Info::new("trueup", "trueup", env!("CARGO_PKG_VERSION"), "", interfaces).expect("names of interfaces")
}

/// The description of `interface`; `None` where there is no such interface here.
pub(super) fn description(interface: &str) -> Option<String> {
    match interface {
        INTERFACE => Some(format!("{}\n", agent())),
        "org.varlink.service" => Some(format!("{DESCRIPTION}\n")),
        _ => None,
    }
}

/// The interface of the agent.
pub(super) fn agent() -> Interface<'static> {
    let errors = Fault::VARIANTS.iter().map(|&error| error.clone()).collect();
    let about = vec![
        Comment::new("The agent that keeps this host true to its fleet repository. Times are seconds since 1970."),
        Comment::new("Anyone local may read; only root may ask for a change, or see lines of files (diff)."),
    ];
    Interface::new_owned(INTERFACE, methods(), types(), errors, about).expect("a name of an interface")
}

fn methods() -> Vec<Method<'static>> {
    let report = || vec![("report", MAYBE_OBJECT.clone())];
    let answer = || vec![("message", TEXT.clone()), ("pass", MAYBE_TEXT.clone())];
    let resources = || ("resources", TEXTS.clone());
    vec![
        method(
            "Status",
            vec![],
            vec![("status", OBJECT.clone())],
            "How the host is: what trueup status --json prints.",
        ),
        method(
            "Watch",
            vec![],
            vec![("status", OBJECT.clone())],
            "The status now and whenever it changes, the newest only. [Requires 'more' flag]",
        ),
        method(
            "Resources",
            vec![],
            vec![
                ("resources", custom("ResourceCounts")),
                ("attention", many("Attention")),
                ("suspended", many("Suspended")),
            ],
            "Resources in numbers, those that are not as declared, and what is suspended.",
        ),
        method("Drift", vec![], report(), "The differences that nobody declared, as the last pass found them."),
        method("Plan", vec![], report(), "What the last pass planned, and what came of it."),
        method(
            "History",
            vec![("limit", MAYBE_INT.clone())],
            vec![("history", many("Passed"))],
            "Passes in which something happened, the newest first.",
        ),
        method("Sync", vec![("allow_removals", MAYBE_INT.clone())], answer(), "Look now, at the source too."),
        method(
            "Suspend",
            vec![resources(), ("until", INT.clone()), ("reason", TEXT.clone())],
            answer(),
            "Stop changing these resources, or the host where there are none, for at most 30 days.",
        ),
        method("Resume", vec![resources()], answer(), "Change these again; where there are none, everything."),
        method(
            "Approve",
            vec![("commit", MAYBE_TEXT.clone())],
            answer(),
            "Let a held host go to this commit, or to the one seen last.",
        ),
        method("Retry", vec![], answer(), "Try what failed or is contested again, now."),
        method(
            "Rollback",
            vec![("commit", TEXT.clone())],
            answer(),
            "Go back to this commit, and stay there until Resume.",
        ),
        method("Restore", vec![("copy", TEXT.clone())], answer(), "Give a kept copy back to where it came from."),
    ]
}

fn types() -> Vec<CustomType<'static>> {
    let ints = |names: &[&'static str]| names.iter().map(|&name| (name, INT.clone())).collect::<Vec<Named>>();
    vec![
        object(
            "ResourceCounts",
            ints(&["managed", "in_sync", "failed", "skipped", "drifted", "contested", "suspended", "pending"]),
        ),
        object(
            "Attention",
            vec![
                ("id", TEXT.clone()),
                ("what", TEXT.clone()),
                ("reason", MAYBE_TEXT.clone()),
                ("message", TEXT.clone()),
                ("attempts", INT.clone()),
                ("next", MAYBE_INT.clone()),
            ],
        ),
        object(
            "Suspended",
            vec![
                ("resource", MAYBE_TEXT.clone()),
                ("since", INT.clone()),
                ("until", INT.clone()),
                ("by", TEXT.clone()),
                ("reason", TEXT.clone()),
            ],
        ),
        object(
            "Passed",
            vec![
                ("pass", TEXT.clone()),
                ("at", INT.clone()),
                ("command", TEXT.clone()),
                ("state", TEXT.clone()),
                ("reason", MAYBE_TEXT.clone()),
                ("message", MAYBE_TEXT.clone()),
                ("revision", MAYBE_TEXT.clone()),
                ("subject", MAYBE_TEXT.clone()),
                ("lines", TEXTS.clone()),
                ("total", INT.clone()),
            ],
        ),
    ]
}

fn method(name: &'static str, inputs: Vec<Named>, outputs: Vec<Named>, about: &'static str) -> Method<'static> {
    Method::new_owned(name, fields(inputs), fields(outputs), vec![Comment::new(about)]).expect("a name of a method")
}

fn object(name: &'static str, named: Vec<Named>) -> CustomType<'static> {
    CustomObject::new_owned(name, fields(named), vec![]).expect("a name of a type").into()
}

fn fields(named: Vec<Named>) -> Vec<Parameter<'static>> {
    named.into_iter().map(|(name, of)| Parameter::new_owned(name, of, vec![]).expect("a name of a field")).collect()
}

fn custom(name: &'static str) -> Type<'static> {
    Type::Custom(name.try_into().expect("a name of a type"))
}

fn many(name: &'static str) -> Type<'static> {
    Type::Array(TypeRef::new_owned(custom(name)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::daemon::socket::tests::{attention, passed, suspended};
    use crate::report::ResourceCounts;

    fn keys(value: &impl serde::Serialize) -> BTreeSet<String> {
        match serde_json::to_value(value).expect("JSON") {
            Value::Object(map) => map.keys().cloned().collect(),
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn the_types_have_the_fields_that_the_documents_have() {
        let described = |name: &str| -> BTreeSet<String> {
            let agent = agent();
            let found = agent.custom_types().find(|of| of.name().as_str() == name).expect("described");
            found.as_object().expect("an object").fields().map(|field| field.name().as_str().to_owned()).collect()
        };
        assert_eq!(described("ResourceCounts"), keys(&ResourceCounts::default()));
        assert_eq!(described("Attention"), keys(&attention()));
        assert_eq!(described("Suspended"), keys(&suspended()));
        assert_eq!(described("Passed"), keys(&passed("1")));
    }

    #[test]
    fn the_description_is_varlink() {
        let text = description(INTERFACE).expect("described");
        assert!(text.contains("\ninterface io.trueup.Agent\n"), "{text}");
        let suspend =
            "method Suspend(resources: []string, until: int, reason: string) -> (message: string, pass: ?string)\n";
        assert!(text.contains(suspend), "{text}");
        assert!(text.contains("method History(limit: ?int) -> (history: []Passed)\n"), "{text}");
        assert!(text.contains("error Refused (reason: string, message: string)\n"), "{text}");
        assert!(text.contains("error PermissionDenied ()\n"), "{text}");
        assert!(description("org.varlink.service").expect("described").contains("method GetInfo() -> ("));
        assert_eq!(description("io.trueup"), None);
    }
}
