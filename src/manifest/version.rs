/// Whether the agent of version `agent` is what `requires` asks for.
///
/// # Errors
/// Where `requires` is not `>=x.y` or `>=x.y.z`.
pub(super) fn satisfied(requires: &str, agent: &str) -> Result<bool, &'static str> {
    const WRONG: &str = "`requires` is the least version of the agent, such as \">=0.3\"";
    let wanted = requires.trim().strip_prefix(">=").ok_or(WRONG)?;
    let wanted = numbers(wanted.trim()).ok_or(WRONG)?;
    // A pre-release such as 0.3.0-rc1 counts as its release.
    let agent = agent.split(['-', '+']).next().unwrap_or_default();
    Ok(numbers(agent).is_some_and(|agent| agent >= wanted))
}

fn numbers(text: &str) -> Option<[u64; 3]> {
    let parts: Vec<&str> = text.split('.').collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(parts) {
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_version_is_enough() {
        assert_eq!(satisfied(">=0.3", "0.3.0"), Ok(true));
        assert_eq!(satisfied(">= 0.3.1", "0.3.0"), Ok(false));
        assert_eq!(satisfied(">=0.9", "0.10.0"), Ok(true));
        assert_eq!(satisfied(">=1.0", "0.99.0"), Ok(false));
        assert_eq!(satisfied(">=0.3", "0.3.0-rc1"), Ok(true));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in ["", "0.3", ">=", ">=1", ">=1.x", ">=1.2.3.4", "^1.0", ">=1.2,<2.0", ">=1.99999999999999999999"] {
            assert!(satisfied(wrong, "0.1.0").is_err(), "{wrong}");
        }
    }
}
