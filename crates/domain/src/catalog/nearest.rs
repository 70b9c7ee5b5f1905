//! "Did you mean …?": the known word that is closest to a mistyped one.

/// The candidate with the fewest typing errors away from `word`, when there are few enough to be a mistake.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A hostile word is not worth the comparison.
    if word.len() > 200 {
        return None;
    }
    let typed: Vec<char> = word.to_lowercase().chars().collect();
    candidates
        .into_iter()
        .map(|candidate| {
            let known: Vec<char> = candidate.to_lowercase().chars().collect();
            (distance(&typed, &known), typed.len().max(known.len()), candidate)
        })
        .filter(|(errors, length, _)| *errors <= (length / 2).max(1))
        .min_by_key(|(errors, _, _)| *errors)
        .map(|(_, _, candidate)| candidate)
}

/// How many insertions, deletions, replacements and swaps of neighbours lie between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted() {
        for (a, b, errors) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("argv", "args", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            assert_eq!(distance(&a, &b), errors);
            assert_eq!(distance(&b, &a), errors);
        }
    }

    #[test]
    fn only_a_likely_mistake_is_corrected() {
        let known = ["timeout", "title", "owner"];
        assert_eq!(nearest("timout", known), Some("timeout"));
        assert_eq!(nearest("TITLE", known), Some("title"));
        assert_eq!(nearest("ownre", known), Some("owner"));
        assert_eq!(nearest("zzzzzzzzz", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"t".repeat(100_000), known), None);
    }
}
