//! Following logs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::event::LogStream;

/// Data of the events `log` and `end` of a followed log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogPiece {
    /// `qgjob.log/v1`.
    pub schema: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Whose output.
    pub stream: LogStream,
    /// Where the piece begins in the log, in bytes.
    pub offset: u64,
    /// The piece; what is no UTF-8 is replaced by U+FFFD. Empty for `end`.
    pub text: String,
}
