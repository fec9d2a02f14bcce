//! Lists in pages.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, newest first unless the list says otherwise.
    pub items: Vec<T>,
    /// Pass it as `cursor` with the same filters to get the next page; none on the last.
    pub next_cursor: Option<String>,
}

/// Items per page when `limit` is not given.
pub const DEFAULT_LIMIT: u32 = 50;
/// The most items a page can hold.
pub const MAX_LIMIT: u32 = 200;
