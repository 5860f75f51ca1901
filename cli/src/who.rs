//! Who sits at the command line.

/// The user's name, as the shell tells it.
pub(crate) fn user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "someone".to_owned())
}

/// Who acts, for a job's history.
pub(crate) fn actor() -> String {
    format!("lanekeeper CLI ({})", user())
}
