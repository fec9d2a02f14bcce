//! Lists in pages. A cursor is the last id that was shown and a digest of the filters, so that it cannot be used with
//! others.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use qgjob_core::api::page::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use qgjob_core::api::problem::Code;
use serde::Deserialize;
use sha2::Digest;
use utoipa::IntoParams;

use super::problem::Rejection;

/// Which page of a list without filters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct PageQuery {
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// At most so many, 50 by default and at most 200.
    pub limit: Option<u32>,
}

/// A page of a list that is at hand whole. It is put in the order of its keys, which no two items share, so that what
/// comes or goes between two pages moves nothing else.
///
/// # Errors
/// `invalid_cursor`, or `invalid_request` for a bad limit.
pub fn of<T, Key>(
    mut items: Vec<T>,
    key: impl Fn(&T) -> Key,
    query: &PageQuery,
    uri: &Uri,
) -> Result<(HeaderMap, Json<Page<T>>), Rejection>
where
    Key: Ord + std::str::FromStr + std::fmt::Display,
{
    let window = Window::read(query.cursor.as_deref(), query.limit, uri.path())?;
    items.retain(|item| window.before.as_ref().is_none_or(|last| key(item) > *last));
    items.sort_by_cached_key(&key);
    let (headers, page) = window.page(items, key, uri);
    Ok((headers, Json(page)))
}

/// Where a page begins and how long it is.
#[derive(Debug)]
pub struct Window<Id> {
    /// After the thing with this id.
    pub before: Option<Id>,
    /// Items on the page.
    pub limit: u32,
    filters: String,
}

impl<Id: std::str::FromStr + std::fmt::Display> Window<Id> {
    /// Reads `cursor` and `limit`; `filters` is a text that is the same exactly when the filters are.
    ///
    /// # Errors
    /// `invalid_cursor`, or `invalid_request` for a bad limit.
    pub fn read(cursor: Option<&str>, limit: Option<u32>, filters: &str) -> Result<Self, Rejection> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Rejection::field("limit", format!("the limit must be 1 to {MAX_LIMIT}")));
        }
        let digest = sha2::Sha256::digest(filters.as_bytes());
        let filters: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let wrong =
            || Rejection::new(Code::InvalidCursor, "the cursor was made for other filters, or is none");
        let before = match cursor {
            None => None,
            Some(cursor) => {
                let (id, made_for) = cursor.rsplit_once('.').ok_or_else(wrong)?;
                let id = id.parse().map_err(|_| wrong())?;
                if made_for != filters {
                    return Err(wrong());
                }
                Some(id)
            }
        };
        Ok(Self { before, limit, filters })
    }

    /// How many items to read: one more than is shown tells whether there is another page.
    pub fn to_read(&self) -> u32 {
        self.limit + 1
    }

    /// Makes the page and the headers that lead to the next one.
    pub fn page<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> Id, uri: &Uri) -> (HeaderMap, Page<T>) {
        let more = items.len() > self.limit as usize;
        items.truncate(self.limit as usize);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|last| format!("{}.{}", id(last), self.filters));
        let mut headers = HeaderMap::new();
        if let Some(cursor) = &next_cursor {
            let kept = uri
                .query()
                .unwrap_or("")
                .split('&')
                .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
            let query: String = kept.map(|pair| format!("{pair}&")).collect();
            // In a query a plus is a space.
            let cursor = cursor.replace('+', "%2B");
            let link = format!("<{}?{query}cursor={cursor}>; rel=\"next\"", uri.path());
            headers.extend(HeaderValue::from_str(&link).ok().map(|link| (header::LINK, link)));
        }
        (headers, Page { items, next_cursor })
    }
}
