/// The candidate nearest to `word` by edit distance, where one is near enough to be what was meant: within a third
/// of the word's length, and two at least where the word has that many characters to spare.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(LONGEST).collect();
    let limit = (word.len() / 3).clamp(1, 12).max(if word.len() > 3 { 2 } else { 1 });
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let below = best.map_or(limit + 1, |(distance, _)| distance);
        if let Some(distance) = distance_below(&word, candidate, below) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Longer words are not compared: their distance costs too much, and nobody mistypes them.
const LONGEST: usize = 512;

/// The number of insertions, deletions, replacements and swaps of neighbours between the two, where it is less
/// than `below`.
fn distance_below(a: &[char], b: &str, below: usize) -> Option<usize> {
    if b.len() > LONGEST * 4 {
        return None;
    }
    let b: Vec<char> = b.chars().collect();
    if a.len().abs_diff(b.len()) >= below {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut cost = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(before_last[j - 2] + 1);
            }
            row.push(cost);
        }
        if row.iter().min().is_some_and(|least| *least >= below) {
            return None;
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|distance| *distance < below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_are_recognised() {
        let keys = ["owner", "group", "mode", "content", "target"];
        assert_eq!(nearest("ownr", keys), Some("owner"));
        assert_eq!(nearest("omde", keys), Some("mode"));
        assert_eq!(nearest("contents", keys), Some("content"));
        assert_eq!(nearest("banana", keys), None);
        assert_eq!(nearest("", keys), None);
    }

    #[test]
    fn the_nearer_of_two_wins() {
        assert_eq!(nearest("/etc/motd.d/10", ["/etc/motd.d/1000", "/etc/motd.d/100"]), Some("/etc/motd.d/100"));
    }
}
