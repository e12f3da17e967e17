//! For tests: what programs print and files hold, cut short.

use std::fmt::Debug;

/// Every beginning of `text` that ends where a line does, the empty one too, and not all of it.
pub fn short(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.match_indices('\n').map(|(at, _)| at + 1).filter(|end| *end < text.len());
    std::iter::once(0).chain(ends).map(|end| &text[..end])
}

/// Whatever `text` is cut to, it is understood as all of it is, or not at all.
#[track_caller]
pub fn is_all_or_nothing<T: PartialEq + Debug, E: Debug>(text: &str, parse: impl Fn(&str) -> Result<T, E>) {
    let whole = parse(text).expect("all of it is understood");
    let mut refused = 0;
    for cut in short(text) {
        match parse(cut) {
            Ok(found) => assert_eq!(found, whole, "what is missing was not missed; cut to:\n{cut}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "it can be cut nowhere:\n{text}");
}
