//! `exclusive`: which directories hold nothing but what is declared.

use super::file::About;
use super::work::Work;
use crate::kinds::file::{Exclusive, What, protected};
use crate::manifest::Problem;
use crate::model::one_line;

/// What the layers say of it for one path, at which `what` stands.
pub(super) fn settle(work: &mut Work<'_>, about: &About<'_, '_>, what: &What) -> Option<Exclusive> {
    let claim = about.attribute(work, "exclusive", |entry| entry.exclusive.as_ref(), show)?;
    let exclusive = claim.value?;
    let problem = if *what != What::Directory {
        let problem = claim.place.error("only a directory can be exclusive");
        Some(problem.hint("add type = \"directory\""))
    } else if let Err(protected) = protected::may_be_exclusive(about.path) {
        let problem =
            claim.place.error(format!("`{}` cannot be exclusive: {}", one_line(about.path, 200), protected.why));
        Some(Problem { hint: protected.hint.map(str::to_owned), ..problem })
    } else {
        None
    };
    match problem {
        Some(problem) => {
            work.problems.push(problem);
            None
        }
        None => Some(exclusive),
    }
}

fn show(exclusive: &Option<Exclusive>) -> String {
    match exclusive {
        None => "false".to_owned(),
        Some(exclusive) if exclusive.ignore.is_empty() => "true".to_owned(),
        Some(exclusive) => format!("{{ ignore = {:?} }}", exclusive.ignore),
    }
}
