//! One value of the configuration, and what keeps it from being read.

use super::value::Value;

/// Everything that is wrong with the configuration, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub(crate) struct ConfigError {
    pub(crate) problems: Vec<String>,
}

/// A value and where it was set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    /// `default`, `/etc/pilothouse/config.toml:3`, `PILOTHOUSE_SERVER__LISTEN`, `--listen`
    pub(crate) origin: String,
}
