//! "Did you mean": the nearest of the known names.

/// ` (did you mean "x"?)`, or, with few names and none near, ` (there are: a, b)`, or nothing.
pub(crate) fn hint<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    if let Some(name) = nearest(given, known.iter().copied()) {
        return format!(" (did you mean {name:?}?)");
    }
    if known.is_empty() || known.len() > 12 {
        return String::new();
    }
    format!(" (there are: {})", known.join(", "))
}

/// The known name nearest to the given one, if it is near enough to be a slip.
pub(crate) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = given.to_lowercase();
    let allowed = (given.chars().count() / 3).max(1);
    known
        .map(|name| (distance(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= allowed || contains(&lower, &name.to_lowercase()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// One is a good part of the other, as `max` is of `maxReplicas`.
fn contains(a: &str, b: &str) -> bool {
    let shorter = a.len().min(b.len());
    shorter >= 3 && (a.contains(b) || b.contains(a))
}

/// Edit distance in which a swap of neighbours counts once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut rows = vec![vec![0; width]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..width {
            let substitute = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitute.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 5] = ["maxPayload", "startWithin", "jobTypes", "lanes", "deletionPolicy"];

    #[test]
    fn finds_slips_and_parts_but_nothing_far_off() {
        for (given, expected) in [
            ("startWithn", Some("startWithin")),
            ("start_within", Some("startWithin")),
            ("jobTpyes", Some("jobTypes")),
            ("payload", Some("maxPayload")),
            ("Lanes", Some("lanes")),
            ("rateLimit", None),
        ] {
            assert_eq!(nearest(given, FIELDS.into_iter()), expected, "{given}");
        }
    }

    #[test]
    fn lists_few_names_when_none_is_near() {
        assert_eq!(hint("xyz", ["a", "b"].into_iter()), " (there are: a, b)");
        assert_eq!(hint("lane", FIELDS.into_iter()), " (did you mean \"lanes\"?)");
        assert_eq!(hint("xyz", std::iter::empty()), "");
    }
}
