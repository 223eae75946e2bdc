//! What a command answers when it cannot be done, in Redis's own words.
//!
//! Clients match on the first word and test suites on the whole text, so every text is Redis's.

use crate::store::StoreError;
use std::borrow::Cow;

/// The text of an error reply, without the leading `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandError(pub(crate) Cow<'static, str>);

impl CommandError {
    pub(crate) const SYNTAX: CommandError = CommandError::of("ERR syntax error");
    pub(crate) const NOT_AN_INTEGER: CommandError =
        CommandError::of("ERR value is not an integer or out of range");
    pub(crate) const NOT_A_FLOAT: CommandError = CommandError::of("ERR value is not a valid float");
    pub(crate) const OVERFLOW: CommandError = CommandError::of("ERR increment or decrement would overflow");
    pub(crate) const WRONG_TYPE: CommandError =
        CommandError::of("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub(crate) const LOADING: CommandError =
        CommandError::of("LOADING Redis is loading the dataset in memory");
    pub(crate) const TOO_LONG: CommandError =
        CommandError::of("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

    /// An error with a fixed text.
    pub(crate) const fn of(text: &'static str) -> CommandError {
        CommandError(Cow::Borrowed(text))
    }

    /// An error with a text made for the occasion.
    pub(crate) fn new(text: String) -> CommandError {
        CommandError(Cow::Owned(text))
    }

    pub(crate) fn wrong_arguments(command: &str) -> CommandError {
        CommandError::new(format!("ERR wrong number of arguments for '{command}' command"))
    }

    pub(crate) fn invalid_expire(command: &str) -> CommandError {
        CommandError::new(format!("ERR invalid expire time in '{command}' command"))
    }

    pub(crate) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> CommandError {
        let subcommand = shown(subcommand, 128);
        CommandError::new(format!("ERR unknown subcommand '{subcommand}'. Try {command} HELP."))
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        CommandError::new(format!("{} {}", error.code, error.message))
    }
}

/// The beginning of an argument, fit to stand in an error text.
pub(crate) fn shown(argument: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&argument[..argument.len().min(max)]).into_owned()
}
