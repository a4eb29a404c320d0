//! Programs of users, which daemons start: can they be found, and how did they end.
#![forbid(unsafe_code)]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

/// Is there a program of this name? Without a `/` it is searched in `PATH`.
pub fn can_be_found(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
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
        assert!(can_be_found("sh") && can_be_found("/bin/sh"));
        assert!(!can_be_found("no-such-program") && !can_be_found("/bin") && !can_be_found("./sh"));
    }
}
