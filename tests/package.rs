//! The Debian package, as far as it can be judged without building one.
#![forbid(unsafe_code)]
