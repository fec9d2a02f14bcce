//! The file as other starts left it.

use super::*;

#[tokio::test]
async fn what_a_start_that_was_cut_off_left_is_not_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("qgjob.db.new", "half a file"), ("qgjob.db-wal", "of a file that is gone")] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let mut world = World::new(Arc::new(fresh(&folder))).await;
    assert_eq!(world.submit(1).await.jobs.len(), 1);
    assert!(!folder.path().join("qgjob.db.new").exists());
}
