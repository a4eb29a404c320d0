//! Programs of users, which daemons start: can they be found, and how did they end.
#![forbid(unsafe_code)]

use crate::sys;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

/// Is there a program of this name? Without a `/` it is searched in `PATH`.
///
/// # Errors
/// It was not found, and somewhere the system refused to look for now.
pub fn can_be_found(name: &str) -> io::Result<bool> {
    if name.contains('/') {
        return is_file(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut refused = None;
    for dir in std::env::split_paths(&path) {
        match is_file(&dir.join(name)) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(e) => refused = Some(e),
        }
    }
    refused.map_or(Ok(false), Err)
}

fn is_file(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(e) if sys::is_momentary(&e) => Err(e),
        Err(_) => Ok(false),
    }
}

/// How a program ended, as the rest of a sentence.
pub fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let found = |name| can_be_found(name).unwrap();
        assert!(found("sh") && found("/bin/sh"));
        assert!(!found("no-such-program") && !found("/bin") && !found("./sh"));
    }
}
