//! Duties that nobody asks for: the sweep, and removing what is too old.

use std::time::Duration;

use crate::app::App;

/// How often leases, deadlines and due jobs are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How often what is too old is removed.
const PRUNE: Duration = Duration::from_secs(60);
/// Jobs that are forgotten in one go, and the pause before the next, in which others use the store.
const FORGET: (u32, Duration) = (500, Duration::from_millis(200));

/// Sweeps until the server stops. A failed sweep is tried again: the next one does what it left.
pub async fn sweep(app: App) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.stopping.cancelled() => return,
        }
        let now = app.clock.now();
        let swept =
            app.store.sweep(now, app.config.timeout_grace, app.config.lease, app.clock.random()).await;
        match swept {
            Ok(swept) if swept == Default::default() => {}
            Ok(swept) => tracing::info!(
                leases_expired = swept.leases_expired,
                deadlines_missed = swept.deadlines_missed,
                became_due = swept.became_due,
                agents_gone = swept.agents_gone,
                "swept"
            ),
            Err(error) => tracing::error!(%error, "the sweep failed"),
        }
    }
}

/// Removes uploads and announcements that were never completed, and what is older than the retention, until the server
/// stops.
pub async fn prune(app: App) {
    let mut ticks = tokio::time::interval(PRUNE);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.stopping.cancelled() => return,
        }
        let now = app.clock.now();
        app.tickets.prune(now);
        match app.uploads.prune(now, app.config.limits.upload_life).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "uploads that were never completed were removed"),
            Err(error) => tracing::error!(%error, "old uploads cannot be removed"),
        }
        tokio::select! {
            () = forget(&app) => {}
            () = app.stopping.cancelled() => return,
        }
    }
}

/// Forgets runs that are older than the retention.
async fn forget(app: &App) {
    let (most, pause) = FORGET;
    let mut runs = 0;
    loop {
        let forgotten = match app.store.forget(app.clock.now(), app.config.retention, most).await {
            Ok(forgotten) if forgotten.runs == 0 => break,
            Ok(forgotten) => forgotten,
            Err(error) => {
                tracing::error!(%error, "old runs cannot be removed");
                break;
            }
        };
        runs += forgotten.runs;
        for attempt in forgotten.attempts {
            if let Err(error) = app.logs.remove(attempt).await {
                tracing::warn!(%attempt, %error, "a log cannot be removed");
            }
        }
        tokio::time::sleep(pause).await;
    }
    if runs > 0 {
        tracing::info!(runs, "old runs were removed");
    }
}
