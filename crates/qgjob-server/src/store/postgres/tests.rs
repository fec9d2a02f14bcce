//! The conformance suite on PostgreSQL, and what only a store of several servers must do.

mod cluster;
mod failures;
mod schema;
mod servers;

use std::sync::Arc;

use proptest::prelude::*;

use self::cluster::{Cluster, Database};
use super::*;
use crate::store::conformance;
use crate::store::conformance::walk::{step, walk};

/// A server's store on the database.
async fn server(database: &Database) -> Postgres {
    Postgres::open(&database.url(), Rules::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_property_of_a_store_holds() {
    let cluster = Cluster::shared();
    let mut broken = Vec::new();
    for (name, property) in conformance::ALL {
        let database = cluster.database().await;
        let store: Arc<dyn Store> = Arc::new(server(&database).await);
        if tokio::spawn(property(store)).await.is_err() {
            broken.push(*name);
        }
    }
    assert!(broken.is_empty(), "these do not hold, see above: {broken:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_verbs_keeps_the_invariants(steps in prop::collection::vec(step(), 1..60)) {
        let cluster = Cluster::shared();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let database = cluster.database().await;
            walk(Arc::new(server(&database).await), &steps).await;
        });
    }
}
