//! The qgjob server: store, blobs, HTTP, background duties.

pub mod app;
pub mod background;
pub mod blobs;
pub mod config;
pub mod credential;
pub mod dispatch;
pub mod forecasts;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod oidc;
pub mod run;
pub mod store;
