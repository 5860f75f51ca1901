//! `copy`: the worker copies its own binary, so that an init container can put it into a shared volume and the user's
//! image needs nothing of Lanekeeper's.

use std::io;
use std::path::Path;

/// Copies the running binary to `destination` (a file, or a directory that gets one of the same name). The copy appears
/// whole or not at all, and is executable for everyone.
///
/// # Errors
/// When the binary cannot be read or the destination cannot be written.
pub fn copy(destination: &Path) -> io::Result<()> {
    let own = std::env::current_exe()?;
    let target = match own.file_name() {
        Some(name) if destination.is_dir() => destination.join(name),
        _ => destination.to_owned(),
    };
    let mut partial = target.clone().into_os_string();
    partial.push(".partial");
    let partial = Path::new(&partial);
    std::fs::copy(&own, partial)?;
    std::fs::set_permissions(partial, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::fs::rename(partial, &target)
}
