//! The wire: bodies of requests and answers. Additive inside `/api/v1` and `/agent/v1`; unknown fields in requests
//! are refused, unknown fields in answers must be ignored.

pub mod about;
pub mod agents;
pub mod app_versions;
pub mod bounds;
pub mod explain;
pub mod jobs;
pub mod logins;
pub mod logs;
pub mod orgs;
pub mod page;
pub mod problem;
pub mod queue;
pub mod results;
pub mod runs;
pub mod tokens;
pub mod uploads;
