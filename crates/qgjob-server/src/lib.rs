//! The qgjob server: store, blobs, HTTP, background duties.

pub mod dispatch;
pub mod store;
