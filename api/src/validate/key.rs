//! Idempotency key templates: text with `{dotted.path}` placeholders.

use crate::policy::KeyPart;

/// Longest template.
pub const MAX_TEMPLATE: usize = 512;

/// Why a template cannot be read. Positions count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A placeholder is not closed.
    #[error("the {{ at character {0} has no }}: close the placeholder, as in {{userId}}")]
    Unclosed(usize),
    /// A `}` stands alone.
    #[error("the }} at character {0} has no {{ before it: remove it or open a placeholder, as in {{userId}}")]
    Unopened(usize),
    /// A placeholder within a placeholder.
    #[error("the {{ at character {0} stands within a placeholder: close the first one before it")]
    Nested(usize),
    /// `{}` or an empty step of a path.
    #[error("the placeholder at character {0} has an empty step: name a payload field, as in {{user.id}}")]
    EmptyStep(usize),
    /// A blank in a placeholder.
    #[error(
        "the placeholder at character {0} contains a blank: name a payload field without it, as in {{user.id}}"
    )]
    Blank(usize),
    /// A NUL, which no handler could be told of.
    #[error("the character {0} is a NUL, which no key can have: remove it")]
    Nul(usize),
    /// There is no template.
    #[error("a key template must not be empty: remove the field for jobs without a key")]
    Empty,
    /// The template is longer than [`MAX_TEMPLATE`].
    #[error("a key template may have at most 512 characters, this one has {0}")]
    TooLong(usize),
}

/// Reads a template such as `email:{user.id}:{templateId}`.
///
/// # Errors
/// Says what is wrong and at which character.
pub fn parse_key(template: &str) -> Result<Vec<KeyPart>, KeyError> {
    let length = template.chars().count();
    if length == 0 {
        return Err(KeyError::Empty);
    }
    if length > MAX_TEMPLATE {
        return Err(KeyError::TooLong(length));
    }
    let (mut parts, mut text, mut open) = (Vec::new(), String::new(), None);
    for (index, c) in template.chars().enumerate() {
        let position = index + 1;
        match (c, open) {
            ('\0', _) => return Err(KeyError::Nul(position)),
            ('{', Some(_)) => return Err(KeyError::Nested(position)),
            ('{', None) => {
                if !text.is_empty() {
                    parts.push(KeyPart::Text(std::mem::take(&mut text)));
                }
                open = Some(position);
            }
            ('}', None) => return Err(KeyError::Unopened(position)),
            ('}', Some(start)) => {
                parts.push(path(&std::mem::take(&mut text), start)?);
                open = None;
            }
            _ => text.push(c),
        }
    }
    if let Some(start) = open {
        return Err(KeyError::Unclosed(start));
    }
    if !text.is_empty() {
        parts.push(KeyPart::Text(text));
    }
    Ok(parts)
}

fn path(text: &str, start: usize) -> Result<KeyPart, KeyError> {
    if text.contains(char::is_whitespace) {
        return Err(KeyError::Blank(start));
    }
    let steps: Vec<String> = text.split('.').map(str::to_owned).collect();
    if steps.iter().any(String::is_empty) {
        Err(KeyError::EmptyStep(start))
    } else {
        Ok(KeyPart::Path(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> KeyPart {
        KeyPart::Text(text.to_owned())
    }

    fn steps(path: &[&str]) -> KeyPart {
        KeyPart::Path(path.iter().map(|step| (*step).to_owned()).collect())
    }

    #[test]
    fn reads_text_and_paths() {
        assert_eq!(
            parse_key("email:{userId}:{a.b.c}!").unwrap(),
            [text("email:"), steps(&["userId"]), text(":"), steps(&["a", "b", "c"]), text("!")]
        );
        assert_eq!(parse_key("{a}{b}").unwrap(), [steps(&["a"]), steps(&["b"])]);
        assert_eq!(parse_key("constant").unwrap(), [text("constant")]);
    }

    #[test]
    fn names_the_position_of_what_is_broken() {
        for (template, error) in [
            ("email:{userId", KeyError::Unclosed(7)),
            ("é:{userId", KeyError::Unclosed(3)),
            ("email:userId}", KeyError::Unopened(13)),
            ("a{b{c}}", KeyError::Nested(4)),
            ("a:{}", KeyError::EmptyStep(3)),
            ("a:{b..c}", KeyError::EmptyStep(3)),
            ("a:{.b}", KeyError::EmptyStep(3)),
            ("a:{ b }", KeyError::Blank(3)),
            ("a\0:{b}", KeyError::Nul(2)),
            ("", KeyError::Empty),
        ] {
            assert_eq!(parse_key(template).unwrap_err(), error, "{template}");
        }
        assert_eq!(parse_key(&"x".repeat(513)).unwrap_err(), KeyError::TooLong(513));
        let message = parse_key("email:{userId").unwrap_err().to_string();
        assert_eq!(message, "the { at character 7 has no }: close the placeholder, as in {userId}");
    }
}
