//! The HTTP contract, held over real sockets against a real server with a real store.

#![expect(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod auth;
mod bytes;
#[expect(dead_code, reason = "the tests of the store use the rest")]
#[path = "../../src/store/postgres/tests/cluster.rs"]
mod cluster;
mod contract;
#[expect(dead_code, reason = "the tests of the command line use the rest")]
#[path = "../../../qgjob/tests/it/issuer.rs"]
mod issuer;
mod limits;
mod logins;
mod logs;
mod openapi;
mod predictions;
mod quotas;
mod reads;
mod reruns;
mod servers;
mod shards;
mod stop;
mod streams;
mod submit;
mod work;
mod world;
