//! Events as they are committed.

use qgjob_core::model::sha256::Sha256;

use super::world::{World, broken};

pub async fn they_are_told_in_order_and_once(w: &mut World) {
    let before = w.store.last_seq().await.unwrap();
    let mut heard = w.store.subscribe();
    let accepted = w.submit(3).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 3).await;
    for device in 0..3 {
        let lease = w.claim(&rack, device, group).await.unwrap();
        w.finish(&rack, &lease, broken()).await;
    }
    let mut live = Vec::new();
    while let Ok(events) = heard.try_recv() {
        live.extend(events.iter().cloned());
    }
    let stored: Vec<_> = w.events().await.into_iter().filter(|event| event.seq > before).collect();
    assert_eq!(live, stored);
    assert!(live.iter().all(|event| event.at == w.now));
}

pub async fn what_failed_is_not_told(w: &mut World) {
    let mut heard = w.store.subscribe();
    let refused = w.submission(2, |run| run.bundle_sha256 = Sha256([9; 32]));
    w.try_submit(refused).await.unwrap_err();
    w.store.probe(w.now).await.unwrap();
    assert!(heard.try_recv().is_err(), "nothing happened");
    let before = w.store.last_seq().await.unwrap();
    w.submit(1).await;
    assert_eq!(heard.try_recv().unwrap()[0].seq, before + 1);
}
