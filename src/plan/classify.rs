use crate::kinds::{Observed, Spec};
use crate::model::Cause;

/// What the truth table says of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Neither ours nor wanted: never touched.
    NotOurs,
    /// As wanted, and not known to be: recorded.
    Adopt,
    /// As wanted and as recorded.
    InSync,
    /// Not as wanted.
    Act(Cause),
    /// Ours and no longer wanted, and what stands there is not what was before.
    LetGo(Cause),
    /// Ours and no longer wanted, and gone, or as it was before.
    Forget,
}

/// The truth table of `ARCHITECTURE.md`, for one resource that could be looked at: what was last
/// applied, what is wanted, what is there, and what it would be put back to if it were let go.
pub fn classify(
    applied: Option<&Spec>,
    desired: Option<&Spec>,
    seen: &Observed,
    ours: bool,
    before: Option<&Spec>,
) -> Verdict {
    let holds = |spec: &Spec| spec.diff(seen).is_empty();
    match (applied, desired) {
        (None, None) if !ours => Verdict::NotOurs,
        (applied, None) => {
            // Gone, unless it is gone because that was wanted: then what stood there before may return.
            let gone = seen.is_absent() && !applied.is_some_and(holds);
            if gone || before.is_some_and(holds) {
                Verdict::Forget
            } else if applied.is_none_or(holds) {
                Verdict::LetGo(Cause::Intended)
            } else {
                Verdict::LetGo(Cause::Conflicting)
            }
        }
        (applied, Some(desired)) if holds(desired) => {
            if applied == Some(desired) {
                Verdict::InSync
            } else {
                Verdict::Adopt
            }
        }
        (None, Some(_)) => Verdict::Act(Cause::Intended),
        (Some(applied), Some(desired)) if applied == desired => Verdict::Act(Cause::Corrective),
        (Some(applied), Some(_)) if holds(applied) => Verdict::Act(Cause::Intended),
        (Some(_), Some(_)) => Verdict::Act(Cause::Conflicting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::package;

    fn version(version: &str) -> Spec {
        Spec::Package(package::Spec::present(package::Version::Exact(version.to_owned()), package::Downgrade::Intended))
    }

    fn installed(version: &str) -> Observed {
        Observed::Package(package::Observed::Installed {
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            essential: false,
            automatic: false,
            held: Some(true),
            order: package::Order::Deb,
        })
    }

    /// Each row of the table, in its order.
    #[test]
    fn the_truth_table() {
        let (a, b) = (version("1"), version("2"));
        let (sa, sb, sc) = (installed("1"), installed("2"), installed("3"));
        let absent = Observed::Package(package::Observed::Absent { config_files: false });
        let check = |applied: Option<&Spec>, desired: Option<&Spec>, seen: &Observed, want: Verdict| {
            assert_eq!(
                classify(applied, desired, seen, applied.is_some(), None),
                want,
                "{applied:?} {desired:?} {seen:?}"
            );
        };
        check(None, None, &sa, Verdict::NotOurs);
        check(None, Some(&a), &sa, Verdict::Adopt);
        check(None, Some(&a), &absent, Verdict::Act(Cause::Intended));
        check(None, Some(&a), &sb, Verdict::Act(Cause::Intended));
        check(Some(&a), Some(&a), &sa, Verdict::InSync);
        check(Some(&a), Some(&a), &sb, Verdict::Act(Cause::Corrective));
        check(Some(&a), Some(&a), &absent, Verdict::Act(Cause::Corrective));
        check(Some(&a), Some(&b), &sa, Verdict::Act(Cause::Intended));
        check(Some(&a), Some(&b), &sb, Verdict::Adopt);
        check(Some(&a), Some(&b), &sc, Verdict::Act(Cause::Conflicting));
        check(Some(&a), Some(&b), &absent, Verdict::Act(Cause::Conflicting));
        check(Some(&a), None, &sa, Verdict::LetGo(Cause::Intended));
        check(Some(&a), None, &sb, Verdict::LetGo(Cause::Conflicting));
        check(Some(&a), None, &absent, Verdict::Forget);
        // Wanted absent, and no longer: what stood there before may return.
        let none = Spec::Package(package::Spec::Absent);
        assert_eq!(classify(Some(&none), None, &absent, true, Some(&a)), Verdict::LetGo(Cause::Intended));
        assert_eq!(classify(Some(&none), None, &absent, true, Some(&none)), Verdict::Forget);
        // What stood before is back already.
        assert_eq!(classify(Some(&a), None, &sb, true, Some(&b)), Verdict::Forget);
        // A first attempt that a crash cut short is ours, though nothing was applied yet.
        assert_eq!(classify(None, None, &sb, true, None), Verdict::LetGo(Cause::Intended));
    }
}
