//! Passwords in URLs are never printed.

/// `text` with the password of every URL in it replaced by `***`. A password may itself hold slashes and at signs:
/// what stands before the last at sign of a word is never shown.
pub(crate) fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        shown.push_str(head);
        let end =
            tail.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`')).unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        match word.rsplit_once('@') {
            Some((credentials, host)) => {
                let user = credentials.split_once(':').map_or("***", |(name, _)| name);
                shown.push_str(&format!(
                    "{user}{}@{host}",
                    if credentials.contains(':') { ":***" } else { "" }
                ));
            }
            None => shown.push_str(word),
        }
        rest = after;
    }
    shown.push_str(rest);
    redact_query(shown)
}

/// redis-rs accepts `?pass=…` in URLs of unix sockets.
fn redact_query(text: String) -> String {
    match text.split_once("pass=") {
        None => text,
        Some((before, after)) => {
            let end = after
                .find(|c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\''))
                .unwrap_or(after.len());
            format!("{before}pass=***{}", redact_query(after[end..].to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn passwords_go_everything_else_stays() {
        for (given, shown) in [
            ("redis://localhost:6379/0", "redis://localhost:6379/0"),
            ("redis://:secret@h:1", "redis://:***@h:1"),
            ("rediss://ann:se:c@r/et@h:1/2", "rediss://ann:***@h:1/2"),
            (
                "cannot reach redis://u:p@a:1 (via redis://b)",
                "cannot reach redis://u:***@a:1 (via redis://b)",
            ),
            ("redis+unix:///tmp/r.sock?db=1&pass=x&user=y", "redis+unix:///tmp/r.sock?db=1&pass=***&user=y"),
            ("no url at all", "no url at all"),
        ] {
            assert_eq!(redact(given), shown);
        }
    }
}
