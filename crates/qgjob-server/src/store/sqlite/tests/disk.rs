//! A disk that is full, or fails.

use super::*;
use crate::store::Scope;

async fn limit_pages(store: &Sqlite, pages: u32) {
    let limit = move |tx: &mut Tx<'_>| {
        tx.connection().pragma_update(None, "max_page_count", pages)?;
        Ok(())
    };
    store.write(limit).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_reads_on_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(fresh(&folder));
    let mut world = World::new(store.clone()).await;
    let before = world.submit(1).await;
    let (events, last) = (world.events().await.len(), store.last_seq().await.unwrap());
    limit_pages(&store, 1).await;
    let mut heard = store.subscribe();
    for _ in 0..3 {
        let large = world.submission(1000, |_| ());
        let result = store.submit(world.now, vec![large]).await;
        assert!(matches!(result, Err(Error::Full)), "{result:?}");
    }
    assert_eq!(world.run(before.run.id).await, before.run, "reads work");
    assert_eq!((world.events().await.len(), store.last_seq().await.unwrap()), (events, last));
    assert!(heard.try_recv().is_err(), "nothing happened, nothing is told");
    limit_pages(&store, 1 << 30).await;
    let after = world.submit(1000).await;
    assert_eq!(world.run(after.run.id).await.jobs.queued, 1000);
    store.probe(world.now).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_fails_only_those_who_need_space() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(fresh(&folder));
    let mut world = World::new(store.clone()).await;
    limit_pages(&store, 1).await;
    let (busy, go) = occupy(&store).await;
    // In one transaction: the large one ends it for itself; the probe behind it runs in the next.
    let large = world.submission(1000, |_| ());
    let now = world.now;
    let (large, probe, ()) = tokio::join!(store.submit(now, vec![large]), store.probe(now), async {
        tokio::task::yield_now().await;
        go.send(()).unwrap();
    });
    assert!(matches!(large, Err(Error::Full)), "{large:?}");
    probe.unwrap();
    busy.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_disk_that_failed_takes_no_more_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(fresh(&folder));
    let mut world = World::new(store.clone()).await;
    let before = world.submit(1).await;
    let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
    let failing: Result<()> =
        store.write(move |_| Err(rusqlite::Error::SqliteFailure(failure, None).into())).await;
    assert!(matches!(failing, Err(Error::Unavailable(_))), "{failing:?}");
    let submission = world.submission(1, |_| ());
    let refused = store.submit(world.now, vec![submission]).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(store.probe(world.now).await.is_err(), "readiness is red");
    assert_eq!(store.run(&Scope::All, before.run.id).await.unwrap().unwrap().0, before.run, "reads work");
    drop(world);
    drop(store);
    let world = World::new(Arc::new(fresh(&folder))).await;
    assert_eq!(world.run(before.run.id).await, before.run);
}
