//! The HTTP contract, held over real sockets against a real server with a real store.

#![expect(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod auth;
mod bytes;
mod contract;
mod limits;
mod logs;
mod openapi;
mod predictions;
mod quotas;
mod reads;
mod shards;
mod stop;
mod streams;
mod submit;
mod work;
mod world;
